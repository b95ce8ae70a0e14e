"""Measures of next-token predictions: entropy and distance of distributions, on logits `[..., V]`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def log_probabilities(logits: ArrayLike) -> Floats:
    """[..., V] natural logarithms of the softmax."""
    z = np.asarray(logits, np.float64)
    shifted = z - z.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def prediction_entropy_bits(logits: ArrayLike) -> Floats:
    """[...] entropy of the softmax, bits, in [0, log2 V]."""
    log_p = log_probabilities(logits)
    return -_expectation(np.exp(log_p), log_p) / np.log(2)


def prediction_divergence_bits(reference: ArrayLike, logits: ArrayLike) -> Floats:
    """[...] KL(p || q) = sum p log2(p / q) of the softmax q of `logits` from that of `reference`, p; bits, at least 0.

    The direction of the tuned lens (Belrose et al. 2303.08112): bits lost by predicting q where p is true.
    """
    log_p, log_q = log_probabilities(reference), log_probabilities(logits)
    p = np.exp(log_p)
    difference = np.subtract(log_p, log_q, out=np.zeros_like(p), where=p > 0)
    return np.maximum(_expectation(p, difference), 0.0) / np.log(2)


def _expectation(p: Floats, values: Floats) -> Floats:
    """[...] sum of p [..., V] times values, where 0 times infinity is 0."""
    return np.multiply(p, values, out=np.zeros_like(p), where=p > 0).sum(-1)
