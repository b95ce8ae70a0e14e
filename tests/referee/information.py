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


def chance_information(joint: np.ndarray, columns_of: int, rows_of: int = 1) -> float:
    """What independent rows and columns give: Miller and Madow's correction for the cells that occur, less what
    the experts of one token exclude each other. K stays the largest number of choices where some tokens have fewer.

    Args:
        joint: [R, C] counts.
        columns_of: how many columns each token is in: K if these are experts, else 1.
        rows_of: the same of rows.
    """
    cells = (joint > 0).sum() - (joint.sum(1) > 0).sum() - (joint.sum(0) > 0).sum() + 1
    return cells * exclusion(joint, columns_of, rows_of) / (2 * joint.sum() * np.log(2))


def exclusion(joint: np.ndarray, columns_of: int, rows_of: int) -> float:
    """How much less the choices of one token vary than as many tokens would."""
    rows, columns = joint.shape
    return (columns - columns_of) / (columns - 1) * (1 if rows_of == 1 else (rows - rows_of) / (rows - 1))
