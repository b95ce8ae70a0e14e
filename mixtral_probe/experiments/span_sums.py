"""The spans of a forward pass, reduced by layer, site and expert."""

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


def exclusive_seconds(spans: Sequence[Span], seconds: np.ndarray) -> np.ndarray:
    """[spans] seconds of each span less those of the spans inside it; their sum is that of the outermost spans."""
    left = seconds.copy()
    parents = np.array([span.parent for span in spans], np.int64)
    inside = parents >= 0
    np.subtract.at(left, parents[inside], seconds[inside])
    return left


def sums_by_place(
    spans: Sequence[Span], values: np.ndarray, config: MixtralConfig, reduce: Any
) -> dict[str, np.ndarray]:
    """Reduce values [spans] to one for each place.

    Args:
        reduce: ``np.add`` or ``np.maximum``.

    Returns:
        ``site`` [L, sites of a layer], ``expert`` [L, E] and ``place`` [places of the model]. What belongs to an expert
        counts as ``expert_output`` too.
    """
    layers = config.num_hidden_layers
    places = {
        "site": np.zeros((layers, len(LAYER_SITES)), values.dtype),
        "expert": np.zeros((layers, config.num_local_experts), values.dtype),
        "place": np.zeros(len(MODEL_SITES), values.dtype),
    }
    site_of = {str(site): number for number, site in enumerate(LAYER_SITES)}
    place_of = {str(place): number for number, place in enumerate(MODEL_SITES)}
    for span, value in zip(spans, values, strict=True):
        if span.place in place_of:
            reduce.at(places["place"], place_of[span.place], value)
        else:
            reduce.at(places["site"], (span.layer, site_of[span.place]), value)
        if span.expert >= 0:
            reduce.at(places["expert"], (span.layer, span.expert), value)
    return places
