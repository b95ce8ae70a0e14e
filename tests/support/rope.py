"""Rotary settings of every type, in the spelling of transformers 5."""

from typing import Any

ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 2.5},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "yarn, all said": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8, "beta_slow": 2,
        "mscale": 0.7, "mscale_all_dim": 0.3, "truncate": False,
    },
    "longrope": {"short_factor": 1.1, "long_factor": 2.3, "factor": 8.0, "original_max_position_embeddings": 16},
    "llama3": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
    },
}  # fmt: skip


def rope_of(name: str, head_size: int, theta: float = 10000.0) -> dict[str, Any]:
    """A complete ``rope_parameters``; the factors of longrope grow from pair to pair."""
    rope = {"rope_type": name, "rope_theta": theta} | ROPES[name]
    for key in ("short_factor", "long_factor"):
        if key in rope:
            rope[key] = [rope[key] + 0.2 * pair for pair in range(head_size // 2)]
    return rope
