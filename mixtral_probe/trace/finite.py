"""Routing that is not finite, and probabilities in place of logits: what a record must not hold unnoticed."""

from typing import Literal, get_args

import numpy as np

from mixtral_probe.errors import InputError

Nonfinite = Literal["refuse", "skip"]
"""What to do about a token whose routing is not finite: refuse it, or go on and give it no choice there."""
_SUM_TOLERANCE = 0.005
"""How far from 1 probabilities may add up to; those in bfloat16 are off by at most 2^-9 each, relative."""


def require_nonfinite(value: str) -> None:
    """Raise InputError for an option that is none of `Nonfinite`."""
    if value not in get_args(Nonfinite):
        raise InputError(f"nonfinite must be one of {', '.join(get_args(Nonfinite))}, got {value!r}")


def nonfinite_rows(ids: np.ndarray, weights: np.ndarray | None, logits: np.ndarray | None) -> np.ndarray:
    """[L, T] True where a token has a choice and its routing is not finite.

    That is: a weight that is NaN, infinite or negative, a router logit that is NaN or +infinite, or one of −infinity
    for an expert that was chosen. Of an expert that was not, −infinity says that it could not be.

    Args:
        ids: [L, T, K] expert ids.
        weights: [L, T, K] expert weights.
        logits: [L, T, E] router logits.
    """
    bad = np.zeros(ids.shape[:2], bool)
    for layer, chosen in enumerate(ids):
        if weights is not None:
            bad[layer] |= ~(np.isfinite(weights[layer]) & (weights[layer] >= 0)).all(-1)
        if logits is not None:
            bad[layer] |= ~(logits[layer] < np.inf).all(-1)
            bad[layer] |= (np.isneginf(_of_chosen(logits[layer], chosen)) & (chosen >= 0)).any(-1)
        bad[layer] &= (chosen >= 0).any(-1)
    return bad


def _of_chosen(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[T, K] the logits of the chosen experts; those beyond E, which another rule refuses, are the last."""
    return np.take_along_axis(logits, chosen.clip(0, logits.shape[-1] - 1).astype(np.intp), -1)


def require_finite(
    ids: np.ndarray, weights: np.ndarray | None, logits: np.ndarray | None, rows: np.ndarray | None = None
) -> None:
    """Raise InputError where routing is not finite, naming the first layer and token; arguments as `nonfinite_rows`.

    Args:
        rows: [T] the numbers of the tokens; counted from 0 where absent.
    """
    bad = nonfinite_rows(ids, weights, logits)
    if bad.any():
        layer, row = np.argwhere(bad)[0]
        token = int(row) if rows is None else int(rows[row])
        raise InputError(
            f"router logits and expert weights must be finite, and weights at least 0, got others in layer {layer} for "
            f"token {token}, the first of {int(bad.sum()):,} in all layers; correct them, or leave such tokens without "
            "a choice there with nonfinite='skip'"
        )


def skip_rows(bad: np.ndarray, ids: np.ndarray, weights: np.ndarray | None) -> None:
    """Take the choice away, in place, from the tokens of layers where `bad` [L, T] is True."""
    ids[bad] = -1
    if weights is not None:
        weights[bad] = 0


def are_probabilities(logits: np.ndarray) -> bool:
    """Whether router logits [L, T, E] look like probabilities: every row is at least 0 and sums to 1.

    Rows that are not finite do not count; with one expert, or without a row that counts, the answer is False.
    """
    if logits.shape[-1] < 2:
        return False
    seen = 0
    for layer in logits:
        rows = layer[np.isfinite(layer).all(-1)]
        if (rows < 0).any() or (np.abs(rows.sum(-1, dtype=np.float64) - 1) > _SUM_TOLERANCE).any():
            return False
        seen += len(rows)
    return seen > 0


def probabilities_refused() -> InputError:
    """Return the error for probabilities in place of logits."""
    return InputError(
        "router logits must come from before the softmax, got probabilities: every row is at least 0 and sums to 1; "
        "give them to Trace.from_arrays as router_probabilities, which stores their logarithm"
    )


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm [L, T, E] of probabilities, −infinity where one is 0.

    Raises:
        InputError: a row is negative somewhere or does not sum to 1.
    """
    if probabilities.size and not are_probabilities(probabilities):
        raise InputError(
            "router_probabilities must be rows of at least 0 that sum to 1 over all experts, got others; "
            "give logits as router_logits"
        )
    with np.errstate(divide="ignore"):
        return np.log(probabilities)
