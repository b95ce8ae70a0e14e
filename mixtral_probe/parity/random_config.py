"""Random Mixtral models whose sizes all differ, so that a mix-up of axes, names or positions changes an output."""

from typing import Any

import numpy as np
import torch

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.activations import ACTIVATION

_ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 2.5},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 8},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": 8},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8},
}
MOST_POSITIONS = 14


def random_config(generator: np.random.Generator) -> MixtralConfig:
    """Uneven sizes, any number of experts, kv heads, rotary type, window, and tied or untied embeddings."""
    kv_heads, groups = int(generator.choice([1, 2, 3])), int(generator.choice([1, 2, 3]))
    experts, head_size = int(generator.choice([1, 2, 5, 12])), int(generator.choice([4, 6, 10]))
    return MixtralConfig(
        vocab_size=int(generator.integers(17, 60)),
        hidden_size=int(generator.choice([10, 24, 36])),
        intermediate_size=int(generator.integers(5, 40)),
        num_hidden_layers=int(generator.integers(1, 4)),
        num_attention_heads=kv_heads * groups,
        num_key_value_heads=kv_heads,
        head_dim=head_size,
        hidden_act=str(generator.choice(list(ACTIVATION))),
        max_position_embeddings=int(generator.choice([8, 32])),
        rms_norm_eps=float(generator.choice([1e-6, 1e-5, 1e-3])),
        pad_token_id=[None, 0][generator.integers(2)],
        tie_word_embeddings=bool(generator.integers(2)),
        rope_parameters=_rope(str(generator.choice(list(_ROPES))), head_size),
        sliding_window=[None, 1, 3, 5][generator.integers(4)],
        num_experts_per_tok=int(generator.integers(1, experts + 1)),
        num_local_experts=experts,
    )


def random_input(vocab_size: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
    """ids [B, S], and a mask with rows padded on the left, on the right, or not at all."""
    rows, length = int(generator.integers(1, 4)), int(generator.integers(1, MOST_POSITIONS + 1))
    ids = torch.from_numpy(generator.integers(0, vocab_size, (rows, length)))
    side = generator.choice(["none", "left", "right"])
    if side == "none":
        return ids, None
    kept = torch.from_numpy(generator.integers(1, length + 1, (rows, 1)))
    position = torch.arange(length)[None]
    return ids, (position >= length - kept if side == "left" else position < kept).long()


def randomise(model: torch.nn.Module, generator: np.random.Generator) -> None:
    """Normal weights; those of the norms lie around 1, since ones would hide a wrong order of operations."""
    source = torch.Generator().manual_seed(int(generator.integers(2**31)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            norm = "norm" in name
            weight.normal_(1.0 if norm else 0.0, 0.2 if norm else 0.15, generator=source)


def _rope(kind: str, head_size: int) -> dict[str, Any]:
    rope = {"rope_type": kind, "rope_theta": 10000.0} | _ROPES[kind]
    if kind == "longrope":
        pairs = range(head_size // 2)
        rope |= {"short_factor": [1.0 + 0.2 * i for i in pairs], "long_factor": [2.0 + 0.3 * i for i in pairs]}
    return rope


def reference_library() -> Any:
    """The module ``transformers``, quiet.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError(
            "parity compares with transformers, which is not installed; install it with: pip install transformers"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers
