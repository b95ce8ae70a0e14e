"""The fields of an edit of the router."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.state import address

NOTHING = "none"
KINDS = {
    "mask_expert": "Forbid an expert",
    "zero_expert": "Silence an expert",
    "bias_router": "Favour an expert",
    "swap_experts": "Swap two experts",
    "force_experts": "Force two experts",
    "top_k": "Other number of experts",
    "temperature": "Temperature of the router",
    "noise_router": "Noise on the router",
    "random_routing": "Random routing",
    "mask_head": "Silence an attention head",
    "scale_head": "Scale an attention head",
    NOTHING: "Only the changes below",
}
_OF_EXPERT = ("mask_expert", "zero_expert", "bias_router", "swap_experts", "force_experts")
_OF_TWO = ("swap_experts", "force_experts")
_OF_HEAD = ("mask_head", "scale_head")
_AMOUNTS: dict[str, tuple[str, str, Sequence[float], float]] = {
    "bias_router": ("bias", "Added to its logit", (-8, -4, -2, -1, -0.5, 0.5, 1, 2, 4, 8), 2),
    "temperature": ("temperature", "Temperature", (0.1, 0.25, 0.5, 0.75, 1.5, 2, 4, 10), 2),
    "noise_router": ("std", "Standard deviation", (0.1, 0.25, 0.5, 1, 2, 4), 1),
    "random_routing": ("share", "Share of the tokens", (0.05, 0.1, 0.25, 0.5, 0.75, 1.0), 1.0),
    "scale_head": ("factor", "Factor", (0.0, 0.25, 0.5, 1.5, 2, 4), 0.5),
}
"""Field, label, options, and the choice at first."""


def draw(layers: int, experts: int, heads: int) -> list[str]:
    """Draw the fields; return the edit as `mp.edits.parse` reads it, or nothing."""
    address.keep("edit", list(KINDS))
    kind = st.selectbox("Change", list(KINDS), format_func=KINDS.__getitem__, key="edit")
    if kind == NOTHING:
        return []
    first, last = _layers(layers)
    words = [kind, f"layer={first}" if first == last else f"layer={first}..{last}"]
    if kind in _OF_EXPERT:
        words.append(_expert(kind, experts))
    if kind in _OF_HEAD:
        words.append(f"head={_number('Head', 'edit_head', range(heads))}")
    if kind == "top_k":
        words.append(f"experts={_number('Experts for each token', 'edit_experts', range(1, experts + 1))}")
    if kind in _AMOUNTS:
        words.append(_amount(kind))
    return [" ".join(words)]


def _layers(layers: int) -> tuple[int, int]:
    ranges = [(first, last) for first in range(layers) for last in range(first, layers)]
    address.keep("edit_layers", ranges, default=(0, layers - 1), named=lambda ends: f"{ends[0]}..{ends[1]}")
    st.select_slider("Layers", list(range(layers)), key="edit_layers")
    first, last = st.session_state["edit_layers"]
    return first, last


def _expert(kind: str, experts: int) -> str:
    chosen = [_number("Expert", "edit_expert", range(experts))]
    if kind in _OF_TWO:
        chosen.append(_number("And expert", "edit_other", [expert for expert in range(experts) if expert != chosen[0]]))
    return f"expert={','.join(map(str, chosen))}"


def _number(label: str, key: str, options: Sequence[int]) -> int:
    numbers = list(options)
    address.keep(key, numbers)
    chosen: int = st.select_slider(label, numbers, key=key)
    return chosen


def _amount(kind: str) -> str:
    field, label, amounts, first = _AMOUNTS[kind]
    address.keep(f"edit_{field}", amounts, default=first)
    chosen: Any = st.select_slider(label, amounts, key=f"edit_{field}")
    return f"{field}={chosen}"
