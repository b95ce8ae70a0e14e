"""Spans of a pass, added up by layer, site and expert."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixtral_probe.config import MixtralConfig
from mixtral_probe.instruments import FORWARD, Span
from mixtral_probe.model import Site

LAYER_SITES = (
    Site.ATTENTION_INPUT, Site.QUERY, Site.KEY, Site.VALUE, Site.HEAD_OUTPUT, Site.ATTENTION_OUTPUT,
    Site.ROUTER_INPUT, Site.ROUTER_LOGITS, Site.ROUTING, Site.EXPERT_OUTPUT, Site.MOE_OUTPUT, Site.RESIDUAL,
)  # fmt: skip
"""The sites of a layer that have spans."""
MODEL_SITES = (Site.EMBEDDING, Site.LOGITS, FORWARD)
"""The places that belong to no layer."""


def own(spans: Sequence[Span], seconds: np.ndarray) -> np.ndarray:
    """[spans] what of each was spent in none of the spans inside it; together they are the outermost ones, exactly."""
    left = seconds.copy()
    parents = np.array([span.parent for span in spans], np.int64)
    inside = parents >= 0
    np.subtract.at(left, parents[inside], seconds[inside])
    return left


def by_place(spans: Sequence[Span], values: np.ndarray, config: MixtralConfig, gather: Any) -> dict[str, np.ndarray]:
    """Values [spans] of the spans of one place as one.

    Args:
        gather: how: ``np.add`` or ``np.maximum``.

    Returns:
        ``site`` [L, sites of a layer], ``expert`` [L, E] and ``place`` [places of the model]. What belongs to an expert
        counts as ``expert_output`` too.
    """
    layers = config.num_hidden_layers
    made = {
        "site": np.zeros((layers, len(LAYER_SITES)), values.dtype),
        "expert": np.zeros((layers, config.num_local_experts), values.dtype),
        "place": np.zeros(len(MODEL_SITES), values.dtype),
    }
    site_of = {str(site): number for number, site in enumerate(LAYER_SITES)}
    place_of = {str(place): number for number, place in enumerate(MODEL_SITES)}
    for span, value in zip(spans, values, strict=True):
        if span.place in place_of:
            gather.at(made["place"], place_of[span.place], value)
        else:
            gather.at(made["site"], (span.layer, site_of[span.place]), value)
        if span.expert >= 0:
            gather.at(made["expert"], (span.layer, span.expert), value)
    return made
