"""In how many ways a placebo can turn out: with few of them its draws say little, and there is no p-value."""

from math import factorial

import numpy as np

from mixtral_probe.metrics import distinct_arrangements

MANY = 10**6
"""Numbers of arrangements are counted up to here."""


def dealt_arrangements(touched: np.ndarray) -> int:
    """In how many ways ``matched_assignments`` can turn out in one window, at most ``MANY``.

    The touched ranks are dealt out to the tokens in a random order, from its beginning again when it has ended.

    Args:
        touched: [T, K] bool, the assignments whose number at each rank is matched.
    """
    ranks = np.repeat(np.arange(touched.shape[1]), touched.sum(0))
    if not len(ranks):
        return 1
    rounds = np.pad(ranks, (0, -len(ranks) % len(touched)), constant_values=-1).reshape(-1, len(touched))
    return distinct_arrangements(np.unique(rounds, axis=1, return_counts=True)[1])


def exchanged_arrangements(tokens: int) -> int:
    """In how many ways tokens can take each other's weights in one circle, at most ``MANY``."""
    return min(factorial(max(tokens - 1, 0)), MANY) if tokens < 12 else MANY
