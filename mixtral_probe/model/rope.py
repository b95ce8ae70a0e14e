"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), half-split as in the Hugging Face layouts."""

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig


def inverse_frequencies(config: MixtralConfig, device: torch.device) -> Tensor:
    """[D/2] float32, theta^(−2i/D). Made anew for every call: a stored buffer would be rounded by ``.to(bfloat16)``."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    return 1.0 / (config.rope_theta**exponents)


def rotary_tables(config: MixtralConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions [B, S], each [B, S, D], computed in float32 and cast to ``dtype``."""
    angles = positions[..., None].float() * inverse_frequencies(config, positions.device)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + D/2) of x [B, H, S, D] by its position's angle."""
    cos, sin = (table.unsqueeze(1) for table in rotary)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
