"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), half-split as in the Hugging Face layouts.

The frequencies of the scaled types (sources: ``mixtral_probe.config.rope``) are those of transformers to the bit, which
determines the order of operations.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.config.rope import attention_factor

Tables = tuple[Tensor, Tensor]


class Rope:
    """Cosines and sines of positions.

    Frequencies are plain float32 tensors: a buffer would be rounded by ``.to(bfloat16)``. Those that depend on the
    length of the input are computed in every call, so that a long input does not affect a later short one.
    """

    def __init__(self, config: MixtralConfig) -> None:
        self._rope, self._limit, self._size = config.rope_parameters, config.max_position_embeddings, config.head_size
        self.scaling = attention_factor(self._rope, self._limit)
        """Factor of cosines and sines."""
        self._exponents = torch.arange(0, self._size, 2, dtype=torch.float32, device="cpu") / self._size
        theta = self._base(self._limit) if self._rope["rope_type"] == "dynamic" else config.rope_theta
        frequencies = _FREQUENCIES[self._rope["rope_type"]](theta, self._exponents, self._rope)
        self._by_device: dict[torch.device, Tensor] = {frequencies.device: frequencies}

    def tables(self, positions: Tensor, dtype: torch.dtype) -> Tables:
        """Cosines and sines of positions [B, S], each [B, S, D], computed in float32 and cast to ``dtype``."""
        angles = positions[..., None].float() * self.frequencies(positions)
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.scaling).to(dtype), (angles.sin() * self.scaling).to(dtype)

    def frequencies(self, positions: Tensor) -> Tensor:
        """[D/2] float32 radians per position, for an input at these positions."""
        default = self._default_frequencies(positions.device)
        kind = self._rope["rope_type"]
        if kind not in ("dynamic", "longrope") or not positions.numel():
            return default
        length, exponents = positions.max() + 1, self._exponents.to(positions.device)
        if kind == "dynamic":
            limit, stretched = self._limit, 1.0 / (self._base(length.clamp(min=self._limit)) ** exponents)
        else:
            limit = self._rope["original_max_position_embeddings"]
            stretched = _longrope(self._rope["rope_theta"], exponents, self._rope, "long_factor")
        return torch.where(length > limit, stretched, default)

    def _default_frequencies(self, device: torch.device) -> Tensor:
        if device not in self._by_device:
            self._by_device[device] = next(iter(self._by_device.values())).to(device)
        return self._by_device[device]

    def _base(self, length: Any) -> Any:
        """The base of dynamic scaling: it grows with the length (number or tensor) beyond the model's positions."""
        factor = self._rope["factor"]
        stretch = (factor * length / self._limit - (factor - 1)) ** (self._size / (self._size - 2))
        return self._rope["rope_theta"] * stretch


def rotate(x: Tensor, rotary: Tables) -> Tensor:
    """Turn each pair (i, i + D/2) of x [B, H, S, D] by its position's angle."""
    cos, sin = (table.unsqueeze(1) for table in rotary)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _plain(theta: float, exponents: Tensor, rope: dict[str, Any]) -> Tensor:
    """theta^(−2i/D)."""
    return 1.0 / (theta**exponents)


def _linear(theta: float, exponents: Tensor, rope: dict[str, Any]) -> Tensor:
    """Positions divided by a factor."""
    return _plain(theta, exponents, rope) / rope["factor"]


def _yarn(theta: float, exponents: Tensor, rope: dict[str, Any]) -> Tensor:
    """Slow pairs divided by the factor, fast ones unchanged, a ramp between (section 3.2 of the paper)."""
    pairs, size = len(exponents), 2 * len(exponents)
    periods = theta**exponents
    low, high = (_pair_with_rotations(rope.get(beta, default), theta, size, rope) for beta, default in _BETAS)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    steps = torch.arange(pairs, dtype=torch.float32, device=exponents.device)
    kept = 1 - ((steps - low) / ((high if high != low else high + 0.001) - low)).clamp(0, 1)
    return (1.0 / (rope["factor"] * periods)) * (1 - kept) + (1.0 / periods) * kept


_BETAS = (("beta_fast", 32), ("beta_slow", 1))


def _pair_with_rotations(rotations: float, theta: float, size: int, rope: dict[str, Any]) -> float:
    """The pair with that number of rotations over the original length."""
    length = rope["original_max_position_embeddings"]
    return size * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))


def _longrope(theta: float, exponents: Tensor, rope: dict[str, Any], factors: str = "short_factor") -> Tensor:
    """Each pair divided by its own factor."""
    squeeze = torch.tensor(rope[factors], dtype=torch.float32, device=exponents.device)
    return 1.0 / (squeeze * theta**exponents)


def _llama3(theta: float, exponents: Tensor, rope: dict[str, Any]) -> Tensor:
    """Long wavelengths scaled by the factor, short ones unchanged, smooth between."""
    frequencies, factor = _plain(theta, exponents, rope), rope["factor"]
    length = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    waves = 2 * math.pi / frequencies
    outer = torch.where(waves > length / low, frequencies / factor, frequencies)
    share = (length / waves - low) / (high - low)
    between = (1 - share) * outer / factor + share * outer
    return torch.where((waves < length / high) | (waves > length / low), outer, between)


_FREQUENCIES: dict[str, Callable[[float, Tensor, dict[str, Any]], Tensor]] = {
    "default": _plain,
    "linear": _linear,
    "dynamic": _plain,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
