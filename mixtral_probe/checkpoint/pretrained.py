"""``from_pretrained``, ``save_pretrained`` and in-place changes, for every model class."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from mixtral_probe.checkpoint.load import load_model
from mixtral_probe.checkpoint.memory import require_memory
from mixtral_probe.checkpoint.names import Layout
from mixtral_probe.checkpoint.placement import DeviceMap
from mixtral_probe.checkpoint.save import save_model
from mixtral_probe.checkpoint.state_dict import register_names
from mixtral_probe.config import MixtralConfig
from mixtral_probe.model import Numerics
from mixtral_probe.model.resizing.pruning import PRUNED, prune_heads
from mixtral_probe.model.resizing.vocabulary import resize_token_embeddings


class Pretrained:
    """A mixin of the classes of ``mixtral_probe.model``, which has no code for files."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        require_memory(config.num_parameters(), torch.get_default_dtype(), torch.get_default_device())
        super().__init__(config, numerics)  # type: ignore[call-arg]
        register_names(self)  # type: ignore[arg-type]
        if pruned := getattr(config, PRUNED, None):
            self.prune_heads({int(layer): heads for layer, heads in pruned.items()})

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        numerics: Numerics = "fast",
        device_map: DeviceMap | None = None,
        **changes: Any,
    ) -> Self:
        """Read a model folder in a layout of Hugging Face or Mistral; the model is in evaluation mode.

        A base or language model read as a classifier gets a new head, with a warning; a head that the class does not
        have is not read.

        Args:
            folder: the folder, or "mini" for the embedded model.
            dtype: "float32", "bfloat16", "float16", or "auto" for that of the file. By default float32 on a CPU and
                that of the file elsewhere.
            device: such as "cpu" or "cuda:0"; "meta" gives the model without weights.
            numerics: "fast", or "reference" for the arithmetic of transformers to the bit.
            device_map: instead of ``device``, "auto" to distribute the layers to accelerators, or devices by layer,
                such as {0: "cuda:0", 1: "cuda:1"}, with "embed_tokens", "norm", "head" and "" for the rest.
            changes: config fields with other values than in the folder, such as ``num_labels=3``.

        Raises:
            InputError: the folder is broken, an argument is unknown, or the weights do not fit into memory.
        """
        model: Any = load_model(cls, folder, dtype, device, numerics, device_map, **changes)  # type: ignore[type-var]
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        layout: Layout = "classic",
        max_shard_size: int | str | None = "5GB",
        dtype: str | torch.dtype | None = None,
    ) -> None:
        """Write a folder that this project and transformers can read.

        Args:
            folder: created where needed; its other files stay.
            layout: "classic", which every loader reads, or "fused", that of transformers 5 in memory.
            max_shard_size: split the weights into files of at most this size; None for a single file.
            dtype: of the weights on disk; by default that of the model.

        Raises:
            InputError: an argument is unknown, the model has no weights, or the disk is too full.
        """
        save_model(self, folder, layout, max_shard_size, dtype)  # type: ignore[arg-type]

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Change the size of the vocabulary; see ``mixtral_probe.model.resizing.vocabulary``."""
        return resize_token_embeddings(self, new_num_tokens, pad_to_multiple_of, mean_resizing)  # type: ignore[arg-type]

    def prune_heads(self, heads: Mapping[int, Iterable[int]]) -> None:
        """Remove attention heads, {layer: heads}; see ``mixtral_probe.model.resizing.pruning.prune_heads``."""
        prune_heads(self, heads)  # type: ignore[arg-type]
