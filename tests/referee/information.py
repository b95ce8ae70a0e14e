"""Entropy and information of tables of counts, bits."""

from itertools import product

import numpy as np


def entropy_bits(share: np.ndarray) -> float:
    """H of shares."""
    return -sum(x * np.log2(x) for x in share if x > 0)


def information(joint: np.ndarray) -> float:
    """Plug-in mutual information of rows and columns."""
    p = joint / joint.sum()
    left, right = p.sum(1), p.sum(0)
    cells = product(range(len(left)), range(len(right)))
    return sum(p[i, j] * np.log2(p[i, j] / left[i] / right[j]) for i, j in cells if p[i, j] > 0)


def chance_information(joint: np.ndarray, excluded: float) -> float:
    """What independent rows and columns give: Miller and Madow's correction for the cells that occur, less what
    the experts of one token exclude each other.
    """
    cells = (joint > 0).sum() - (joint.sum(1) > 0).sum() - (joint.sum(0) > 0).sum() + 1
    return cells * excluded / (2 * joint.sum() * np.log(2))


def exclusion(numbers: list[tuple[int, ...]], experts: int) -> float:
    """How much less the choices of tokens vary than single ones: a draw of k of E without replacement has k (E - k) /
    (E - 1) of the variance of one choice, and products of independent draws the product.

    Args:
        numbers: of each token how many experts it chose, in one layer or in two.
        experts: E.
    """
    varies = sum(np.prod([k * (experts - k) / (experts - 1) for k in token]) for token in numbers)
    return varies / sum(np.prod(token) for token in numbers)
