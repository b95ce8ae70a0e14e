"""Repeats expected when the tokens of each document are put in random order: sums over documents, which merge."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.metrics import independent_repetition
from mixtral_probe.stats.sums import Floats, Integers, SumsByName

SHUFFLED_REPEATS = ("repetition_first", "overlap", "repetition_any")
"""The metrics whose repeats are summed; the last where `metrics.independent_repetition` knows it."""


@dataclass(frozen=True)
class RepeatCounts(SumsByName):
    """The counts of a document that its expected repeats follow from; any leading axes."""

    tokens: Integers
    """[...]"""
    load: Integers
    """[..., K, E] choices by rank."""
    apart: Integers
    """[..., lag] pairs of tokens that are compared, so far apart."""
    pairs: Integers
    """[..., E, E] tokens that chose both experts; [..., 0, 0] unless K is 2, where alone it is needed."""
    sets: Integers
    """[..., S] tokens by all experts they chose, as in `Structure`."""


def shuffled_repeats(counts: RepeatCounts) -> dict[str, NDArray[Any]]:
    """Return `shuffled_repeats` [..., metric, lag] of documents with these counts, as `ValueSums` has their sums.

    In a random order two tokens so far apart are any two: the number of pairs that are compared times the repetition of
    two different tokens of the document.
    """
    sets = counts.sets if counts.sets.shape[-1] else None
    rates = independent_repetition(counts.load, counts.pairs, counts.tokens, shuffled=True, sets=sets)
    known = [np.nan_to_num(rates[name]) for name in SHUFFLED_REPEATS if name in rates]
    repeats: Floats = np.stack(known, axis=-1)[..., None] * counts.apart[..., None, :]
    return {"shuffled_repeats": repeats}
