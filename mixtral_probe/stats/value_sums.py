"""Sums of values of single windows and single documents, so that their means count each alike however many there are.

A window is a sequence that the model was run on: a document, or one chunk of a long one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats.per_token import TOPK_MASS
from mixtral_probe.stats.sums import Cells, Floats, Integers, Sums, SumsByName
from mixtral_probe.stats.unit_values import UnitValues, documents_of, names_of_documents


@dataclass(frozen=True)
class ValueSums(SumsByName):
    """Sums over the windows, or over the documents, that have a token which counts in the layer.

    All are None in statistics that were read from a file of version 4, but those of documents where each had a block.
    """

    windows: Integers | None = None
    """[...] the number of windows."""
    violation: Floats | None = None
    """[...] over windows: `metrics.max_violation`."""
    violation_chance: Floats | None = None
    """[...] over windows: its mean under uniform routing of as many tokens."""
    loss: Floats | None = None
    """[...] over windows: `metrics.load_balancing_loss`; None without logits."""
    loss_chance: Floats | None = None
    """[...] over windows: its mean under independent routing, `metrics.chance_load_balancing_loss`."""
    documents: Integers | None = None
    """[...] the number of documents."""
    choice_share: Floats | None = None
    """[..., E] over documents: share of the choices."""
    gate_score: Floats | None = None
    """[..., E] over documents: mean weight of a token; None without logits and expert weights."""
    shuffled_repeats: Floats | None = None
    """[..., 2 or 3, lag] over documents: repeats expected with their tokens in random order, of the metrics
    `SHUFFLED_REPEATS`."""


def values_of_windows(sums: Sums) -> dict[str, NDArray[Any]]:
    """Return the values [...] by name of windows with these sums, those of a window without tokens 0."""
    tokens, counts = sums.tokens, sums.counts
    chosen, experts = sums.load.shape[-2:]
    choices = counts.sum(-1)
    violation_chance = metrics.expected_max_violation(tokens, experts, metrics.ratio(choices, tokens))
    values: dict[str, Any] = {
        "windows": (tokens > 0).astype(np.int64),
        "violation": np.nan_to_num(metrics.max_violation(counts)),
        "violation_chance": np.nan_to_num(violation_chance),
    }
    if sums.probability is not None and sums.confidence is not None:
        share = metrics.ratio(counts, chosen * tokens[..., None])
        loss = metrics.load_balancing_loss(share, metrics.ratio(sums.probability, tokens[..., None]))
        mass = sums.confidence[..., TOPK_MASS]
        chance = metrics.chance_load_balancing_loss(mass, tokens, choices, num_experts=experts, chosen=chosen)
        values |= {"loss": np.nan_to_num(loss), "loss_chance": np.nan_to_num(chance)}
    return values


def values_of_documents(sums: Sums) -> dict[str, NDArray[Any]]:
    """Return the values [..., E] by name of documents with these sums, those of a document without tokens 0."""
    values: dict[str, Any] = {
        "documents": (sums.tokens > 0).astype(np.int64),
        "choice_share": np.nan_to_num(metrics.share(sums.counts)),
    }
    if sums.gate is not None:
        values["gate_score"] = np.nan_to_num(metrics.ratio(sums.gate, sums.tokens[..., None]))
    return values


class ValueAccumulator:
    """The sums [L, G, Bk, ...] of the values of windows and documents.

    Args:
        cells: where each document's values are added.
        empty: [L, G, Bk, ...] sums of 0; what they lack is not computed.
    """

    def __init__(self, cells: Cells, empty: Sums) -> None:
        one, layers = empty.map(lambda array: np.zeros((1, 1, *array.shape[3:]), array.dtype)), len(empty.tokens)
        self._windows = UnitValues(cells, values_of_windows, one, layers)
        self._documents = UnitValues(cells, values_of_documents, one, layers)

    def update(self, names: Integers, sums: Sums) -> None:
        """Add windows, in the order of the trace and possibly cut in two between calls, in place.

        Args:
            names: [W] as `unit_values.names_of_windows` makes them, ascending.
            sums: [L, W, ...] of each.
        """
        self._windows.update(names, sums)
        self._documents.update(names_of_documents(documents_of(names)), sums)

    def finish(self) -> ValueSums:
        """Add the last window and document and return all sums; no update may follow."""
        return ValueSums(**self._windows.finish(), **self._documents.finish())
