"""``from_pretrained`` and ``save_pretrained`` for every model class."""

from pathlib import Path
from typing import Any, Self

import torch

from mixtral_probe.checkpoint.load import load_model
from mixtral_probe.checkpoint.memory import require_memory
from mixtral_probe.checkpoint.names import Layout
from mixtral_probe.checkpoint.save import save_model
from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention import Numerics


class Pretrained:
    """Mixed into the classes of ``mixtral_probe.model``, which know nothing of files."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        require_memory(config.num_parameters(), torch.get_default_dtype(), torch.get_default_device())
        super().__init__(config, numerics)  # type: ignore[call-arg]

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        numerics: Numerics = "fast",
    ) -> Self:
        """Read a Hugging Face model folder, classic or fused; the model is in evaluation mode.

        Args:
            folder: the folder, or "mini" for the embedded model.
            dtype: "float32", "bfloat16", "float16", or "auto" for that of the file. By default float32 on a CPU and
                that of the file elsewhere.
            device: such as "cpu" or "cuda:0"; "meta" gives the model without weights.
            numerics: "fast", or "reference" for the arithmetic of transformers to the bit.

        Raises:
            InputError: the folder is broken, an argument is unknown, or the weights do not fit into memory.
        """
        model: Any = load_model(cls, folder, dtype, device, numerics)  # type: ignore[type-var]
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        layout: Layout = "classic",
        max_shard_size: int | str | None = "5GB",
        dtype: str | torch.dtype | None = None,
    ) -> None:
        """Write a folder that this project and transformers read.

        Args:
            folder: made where needed; its other files stay.
            layout: "classic", which every loader reads, or "fused", that of transformers 5 in memory.
            max_shard_size: split the weights into files of at most this size; None for a single file.
            dtype: of the weights on disk; by default that of the model.

        Raises:
            InputError: an argument is unknown, the model has no weights, or the disk is too full.
        """
        save_model(self, folder, layout, max_shard_size, dtype)  # type: ignore[arg-type]
