"""Which token types an expert is chosen for more often than its load explains: lift, nPMI, p-values, false discoveries.

`counts` is `[..., V, E]`: tokens of each type that chose each expert; `n` `[..., V]` tokens of each type; `load`
`[..., E]` tokens that chose each expert; `tokens` `[...]` all of them.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio
from mixtral_probe.metrics.specialization.hypergeometric import upper_tail

Floats = NDArray[np.float64]


def token_lift(counts: ArrayLike, n: ArrayLike, load: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., V, E] (N(x, e) / N(x)) / F_e: how many times the usual share of a type's tokens chose the expert."""
    frequency = ratio(load, np.asarray(tokens, np.float64)[..., None])
    return ratio(ratio(counts, np.asarray(n, np.float64)[..., None]), frequency[..., None, :])


def token_npmi(counts: ArrayLike, n: ArrayLike, load: ArrayLike) -> Floats:
    """[..., V, E] ln(p(x, e) / (p(x) p(e))) / -ln p(x, e), in [-1, 1]: -1 never together, 0 independent (Bouma 2009).

    p is over assignments: a token's K choices are K draws of (type, expert).
    """
    joint, total = np.asarray(counts, np.float64), np.asarray(load, np.float64).sum(-1)[..., None, None]
    p = ratio(joint, total)
    types = ratio(joint.sum(-1, keepdims=True), total)
    experts = ratio(np.asarray(load, np.float64)[..., None, :], total)
    inside, independent = (p > 0) & (p < 1), np.broadcast_to(types * experts, p.shape)
    logs = np.log(np.divide(p, independent, out=np.ones_like(p), where=inside))
    value = np.divide(logs, -np.log(np.where(inside, p, 0.5)), out=np.full(p.shape, -1.0), where=inside)
    possible = np.isfinite(p) & np.isfinite(independent) & (independent > 0)
    return np.where(possible, np.where(p == 1, 1.0, value), np.nan)


def lift_p_values(counts: ArrayLike, n: ArrayLike, load: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., V, E] one-sided p: as many or more of the type's tokens choose the expert when routing ignores the type.

    Exact for tokens that are independent of each other (hypergeometric, Fisher). Tokens of one document are not
    quite independent, so small p-values are too small: use them for ranking, and check findings on other documents.
    """
    total, took = np.asarray(tokens)[..., None, None], np.asarray(load)[..., None, :]
    return upper_tail(counts, total, took, np.asarray(n)[..., None])


def false_discovery_rates(p: ArrayLike) -> Floats:
    """[...] of p-values all tested together: the share of false discoveries among all values up to this one.

    Benjamini & Hochberg (1995), over all values that are not missing; missing ones stay missing.
    """
    values = np.asarray(p, np.float64)
    rates, known = np.full(values.shape, np.nan), np.isfinite(values)
    if known.any():
        # Imported here, since it takes longer than the rest of this package.
        from scipy.stats import false_discovery_control

        rates[known] = false_discovery_control(values[known])
    return rates


def token_log_odds(counts: ArrayLike, n: ArrayLike, load: ArrayLike, tokens: ArrayLike, *, prior: float) -> Floats:
    """[..., V, E] z-score of a type's log odds among an expert's tokens against those among the others; null 0.

    Monroe, Colaresi & Quinn (2008), eqs. 16 and 22: a Dirichlet prior with the corpus' own frequencies and the weight
    of `prior` tokens shrinks rare types towards 0. NaN where the expert took all tokens, or none.

    Args:
        counts: [..., V, E].
        n: [..., V].
        load: [..., E].
        tokens: [...].
        prior: the prior's weight in tokens, above 0.
    """
    whole = np.asarray(tokens, np.float64)[..., None, None]
    observed, total = np.asarray(counts, np.float64), np.asarray(load, np.float64)[..., None, :]
    alpha = prior * ratio(np.asarray(n, np.float64)[..., None], whole)
    sides = ((observed, total), (np.asarray(n, np.float64)[..., None] - observed, whole - total))
    odds = [ratio(y + alpha, size + prior - y - alpha) for y, size in sides]
    spread = np.sqrt(sum(ratio(1.0, y + alpha) for y, _ in sides))
    inside = (total > 0) & (total < whole)
    delta = np.subtract(*(np.log(np.where(inside & (part > 0), part, 1.0)) for part in odds))
    return np.where(inside, ratio(delta, spread), np.nan)
