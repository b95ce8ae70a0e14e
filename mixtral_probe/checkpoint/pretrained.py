"""``from_pretrained``, ``save_pretrained`` and in-place changes, for every model class."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mixtral_probe.checkpoint.arguments import require_without_effect, translate
from mixtral_probe.checkpoint.load import load_model
from mixtral_probe.checkpoint.memory import require_memory
from mixtral_probe.checkpoint.names import Layout
from mixtral_probe.checkpoint.placement import DeviceMap
from mixtral_probe.checkpoint.save import save_model
from mixtral_probe.checkpoint.state_dict import register_names
from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model import ExpertsImplementation, Numerics
from mixtral_probe.model.resizing.pruning import prune_heads, removed_heads
from mixtral_probe.model.resizing.vocabulary import resize_token_embeddings


class Pretrained:
    """A mixin of the classes of ``mixtral_probe.model``, which has no code for files."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        config = MixtralConfig.of(config)
        require_memory(config.num_parameters(), torch.get_default_dtype(), torch.get_default_device())
        super().__init__(config, numerics)  # type: ignore[call-arg]
        register_names(self)  # type: ignore[arg-type]
        if self.base_model is self and (pruned := removed_heads(config)):  # type: ignore[attr-defined]
            self.prune_heads(pruned)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        numerics: Numerics | None = None,
        device_map: DeviceMap | None = None,
        *,
        config: Any = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        experts_implementation: ExpertsImplementation | None = None,
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
            numerics: "fast", the default, or "reference" for the arithmetic of transformers to the bit.
            device_map: instead of ``device``, "auto" to distribute the layers to accelerators, a device, or devices by
                layer, such as {0: "cuda:0", 1: "cuda:1"}, with "embed_tokens", "norm", "head" and "" for the rest.
            config: instead of that of the folder: a config, that of transformers, or a path.
            ignore_mismatched_sizes: give a classifier stored for another number of labels a new head.
            output_loading_info: return the model and a dict of what is missing, not expected, or of another shape.
            experts_implementation: as in ``set_experts_implementation``.
            changes: config fields with other values than in the folder, such as ``num_labels=3``; and arguments of
                transformers: ``torch_dtype``, ``attn_implementation`` ("eager" stands for ``numerics="reference"``),
                ``subfolder``, ``generation_config``, ``pretrained_model_name_or_path``, and without effect those in
                ``arguments.WITHOUT_EFFECT``, such as ``local_files_only``.

        Raises:
            InputError: the folder is broken, an argument is unknown, or the weights do not fit into memory.
        """
        arguments = translate({"folder": folder, "dtype": dtype, "numerics": numerics, **changes})
        arguments["numerics"] = arguments["numerics"] or "fast"
        model, loading = load_model(  # type: ignore[type-var]
            cls, **arguments, device=device, device_map=device_map, config=config,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )  # fmt: skip
        if experts_implementation is not None:
            model.set_experts_implementation(experts_implementation)  # type: ignore[attr-defined]
        found: Any = (model, loading.to_dict()) if output_loading_info else model
        return found

    def save_pretrained(
        self,
        folder: str | Path,
        layout: Layout = "classic",
        max_shard_size: int | str | None = "5GB",
        dtype: str | torch.dtype | None = None,
        *,
        safe_serialization: bool = True,
        save_original_format: bool | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        is_main_process: bool = True,
        **others: Any,
    ) -> None:
        """Write a folder that this project and transformers can read.

        Args:
            folder: created where needed; its other files stay.
            layout: "classic", which every loader reads, or "fused", that of transformers 5 in memory.
            max_shard_size: split the weights into files of at most this size; None for a single file.
            dtype: of the weights on disk; by default that of the model.
            safe_serialization: must be True, since the weights are written as safetensors.
            save_original_format: the layout under the name of transformers: True for "classic", False for "fused".
            state_dict: weights by their names in memory, such as those gathered from several processes, in place of the
                model's own.
            is_main_process: False writes nothing, for every process but one.
            others: of transformers and without effect, in ``arguments.NOT_SAVED``, such as ``push_to_hub=False``.

        Raises:
            InputError: an argument is unknown, the model has no weights, or the disk is too full.
        """
        require_without_effect(others)
        if not safe_serialization:
            raise InputError("weights are written as safetensors, got safe_serialization=False; leave it out")
        if save_original_format is not None:
            layout = "classic" if save_original_format else "fused"
        if is_main_process:
            save_model(self, folder, layout, max_shard_size, dtype, state_dict)  # type: ignore[arg-type]

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
