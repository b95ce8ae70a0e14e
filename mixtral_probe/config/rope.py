"""The rotary settings of a config: read in every spelling, merged into one, checked.

Types and their parameters are those of transformers: "default" (Su et al. 2021, arXiv 2104.09864), "linear" (Chen et
al. 2023, arXiv 2306.15595), "dynamic" (NTK-aware scaling that grows with the input), "yarn" (Peng et al. 2023, arXiv
2309.00071), "longrope" (Ding et al. 2024, arXiv 2402.13753), "llama3" (Llama 3.1).
"""

import math
import sys
from collections.abc import Iterator
from typing import Any

from mixtral_probe.errors import InputError

DEFAULT_ROPE_THETA = 1_000_000.0
"""The default where a config has none."""
_NEEDED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
ROPE_TYPES = tuple(_NEEDED)
"""Names ``rope_type`` may have."""
_SCALED = ("yarn", "longrope", "llama3")  # scaled from the length of the original training
_LENGTH = "original_max_position_embeddings"


def one_rope(fields: dict[str, Any]) -> dict[str, Any]:
    """Merge all spellings of the rotary settings in a config into one complete ``rope_parameters``.

    Raises:
        InputError: two spellings contradict each other, or one is not an object.
    """
    older, newer = fields.pop("rope_scaling", None) or {}, fields.get("rope_parameters") or {}
    for name, settings in (("rope_scaling", older), ("rope_parameters", newer)):
        if not isinstance(settings, dict):
            raise InputError(f"config field {name} must be an object, got {settings!r}")
    rope = _merged("rope_scaling", _renamed(older), "rope_parameters", _renamed(newer))
    top = {name: fields[name] for name in ("rope_theta", "partial_rotary_factor") if fields.get(name) is not None}
    if rope.get("rope_type") in _SCALED and fields.get(_LENGTH) is not None:
        top[_LENGTH] = fields[_LENGTH]
    rope = _merged("the config itself", top, "its rope_parameters or rope_scaling", rope)
    rope = {name: value for name, value in rope.items() if value is not None}
    rope = {"rope_type": "default", "rope_theta": DEFAULT_ROPE_THETA} | rope
    if rope["rope_type"] in _SCALED:
        rope.setdefault(_LENGTH, fields["max_position_embeddings"])
    longest, original = fields["max_position_embeddings"], rope.get(_LENGTH)
    if rope["rope_type"] == "yarn" and _is_number(longest) and _is_number(original) and original:
        rope.setdefault("factor", longest / original)
    return {name: fields[name] for name in fields if name != "rope_theta"} | {"rope_parameters": rope}


def _renamed(rope: dict[str, Any]) -> dict[str, Any]:
    """Rename ``type``, the oldest spelling of ``rope_type``."""
    rope = dict(rope)
    older = rope.pop("type", None)
    return rope | {"rope_type": rope.get("rope_type", older)} if older is not None else rope


def _merged(first_name: str, first: dict[str, Any], second_name: str, second: dict[str, Any]) -> dict[str, Any]:
    for name in first.keys() & second.keys():
        if first[name] != second[name] and None not in (first[name], second[name]):
            raise InputError(
                f"config field {name} must be the same wherever it stands, got {first[name]!r} in {first_name} "
                f"and {second[name]!r} in {second_name}; give one"
            )
    return first | {name: value for name, value in second.items() if value is not None or name not in first}


def attention_factor(rope: dict[str, Any], max_positions: int) -> float:
    """Return the factor of cosines and sines, for yarn and longrope; 1 for the other types."""
    if (factor := rope.get("attention_factor")) is not None:
        return float(factor)
    if rope["rope_type"] == "yarn":
        return _yarn_attention_factor(rope)
    if rope["rope_type"] == "longrope":
        original = rope[_LENGTH]
        factor = rope.get("factor", max_positions / original)
        return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return 1.0


def _yarn_attention_factor(rope: dict[str, Any]) -> float:
    """Return 0.1 ln(factor) + 1, or a ratio of two such terms (DeepSeek's mscale)."""

    def scale(weight: float) -> float:
        return 1.0 if rope["factor"] <= 1 else 0.1 * weight * math.log(rope["factor"]) + 1.0

    over, under = rope.get("mscale"), rope.get("mscale_all_dim")
    return float(scale(over) / scale(under)) if over and under else scale(1)


def rope_rules(rope: dict[str, Any], head_size: int) -> Iterator[tuple[bool, str]]:
    """Yield whether each rule of a complete ``rope_parameters`` is kept, and its sentence."""
    kind, theta = rope["rope_type"], rope["rope_theta"]
    yield kind in ROPE_TYPES, f"rope_type must be one of {', '.join(ROPE_TYPES)}, got {kind!r}"
    yield _is_number(theta) and theta > 0, f"rope_theta must be positive, got {theta!r}"
    partial = rope.get("partial_rotary_factor", 1.0)
    yield partial == 1.0, f"partial_rotary_factor must be 1, since Mixtral turns whole heads, got {partial!r}"
    for name in _NEEDED[kind]:
        yield name in rope, f"rope_parameters of type {kind!r} must have {name}, got {rope}"
    yield from _number_rules(rope)
    yield from _type_rules(rope, head_size)


def _number_rules(rope: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    if rope["rope_type"] == "default":
        return
    factor, length = rope.get("factor", 1), rope.get(_LENGTH, 1)
    yield (
        _is_number(length) and length == int(length) and length > 0,
        f"{_LENGTH} must be a positive integer, got {length!r}",
    )
    yield _is_number(factor) and factor >= 1, f"factor of the rope must be a number of at least 1, got {factor!r}"
    for name in ("attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"):
        value = rope.get(name, 1)
        yield _is_number(value) and value > 0, f"{name} of the rope must be a positive number, got {value!r}"
    for name in ("mscale", "mscale_all_dim"):
        value = rope.get(name, 1)
        yield _is_number(value) and value >= 0, f"{name} of the rope must not be negative, got {value!r}"


def _type_rules(rope: dict[str, Any], head_size: int) -> Iterator[tuple[bool, str]]:
    kind, theta = rope["rope_type"], rope["rope_theta"]
    if kind == "dynamic":
        yield head_size > 2, f"head_dim must be above 2 for the rope_type 'dynamic', got {head_size}"
    elif kind == "yarn":
        yield theta > 1, f"rope_theta must be above 1 for the rope_type 'yarn', got {theta}"
        fast, slow = rope.get("beta_fast", 32), rope.get("beta_slow", 1)
        yield fast >= slow, f"beta_fast must be at least beta_slow ({slow}), got {fast}"
    elif kind == "longrope":
        length = rope[_LENGTH]
        yield length > 1, f"{_LENGTH} must be above 1 for the rope_type 'longrope', got {length}"
        for name in ("short_factor", "long_factor"):
            factors = rope[name]
            yield (
                isinstance(factors, list) and all(_is_number(f) and f > 0 for f in factors),
                f"{name} must be a list of positive numbers, got {factors!r}",
            )
            yield (
                len(factors) == head_size // 2,
                f"{name} must have head_dim / 2 = {head_size // 2} numbers, got {len(factors)}",
            )
    elif kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        yield high > low, f"high_freq_factor must be above low_freq_factor ({low}), got {high}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
