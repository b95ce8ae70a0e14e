"""Windows and parts of a text as they would be if tokens exchanged their places: real loads, independent in time.

Tokens are exchanged without replacement, each with its set of experts, so the loads are those observed, not drawn anew.
What an observed value has beyond them is the order of the tokens: that neighbours, and the tokens of one document,
resemble each other.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
EXCHANGES = 20
"""How many windows, at least, or how many parts of a text are drawn."""
_TOKENS = 4096
"""The least number of tokens in the longest of them together."""


def exchanged_windows(lengths: Sequence[int], seed: int = 0) -> list[Places]:
    """Draw windows from the tokens of all windows: [S] the number of each of its tokens among all, for each.

    Each drawn window stands for as many tokens, its length being a quantile of the windows' lengths by tokens, so that
    the mean over them of a share is the share of all tokens. The same for equal arguments.

    Args:
        lengths: [W] tokens of each window, of at least 1 together.
        seed: of the random order.
    """
    sizes = np.sort(np.asarray(lengths, np.int64))
    draws, tokens = max(EXCHANGES, ceil(_TOKENS / sizes[-1])), int(sizes.sum())
    middles = (np.arange(draws) + 0.5) / draws * tokens
    drawn = sizes[np.searchsorted(sizes.cumsum(), middles)]
    generator = np.random.default_rng(seed)
    return [generator.permutation(tokens)[:size] for size in drawn.tolist()]


def exchanged_counts(counts: ArrayLike, pairs: ArrayLike, tokens: ArrayLike, drawn: ArrayLike, seed: int = 0) -> Floats:
    """[20, ..., E] how often each expert is chosen by some tokens, drawn from all of them without replacement.

    From the multivariate normal with the exact mean m n_e / T and covariance m (T - m) / (T (T - 1)) (n_ef - n_e n_f /
    T) of m tokens, not rounded, and clipped to 0 ... n_e. The same for equal arguments; every cell has the same random
    numbers.

    Args:
        counts: [..., E] n_e, tokens that chose each expert.
        pairs: [..., E, E] n_ef, tokens that chose both; what is on the diagonal does not count.
        tokens: [...] T.
        drawn: [...] m, at most T.
        seed: of the random numbers.
    """
    n, both = np.asarray(counts, np.float64), np.array(pairs, np.float64)
    total, part = (np.asarray(size, np.float64)[..., None] for size in (tokens, drawn))
    diagonal = np.arange(n.shape[-1])
    both[..., diagonal, diagonal] = n
    together = both - n[..., None] * n[..., None, :] / np.maximum(total, 1)[..., None]
    variances, directions = np.linalg.eigh(together)
    noise = np.random.default_rng(seed).standard_normal((EXCHANGES, n.shape[-1]))
    noise = noise.reshape(EXCHANGES, *(1,) * (n.ndim - 1), 1, -1) * np.sqrt(np.maximum(variances, 0))[..., None, :]
    scale = np.sqrt(part * (total - part) / np.maximum(total * (total - 1), 1))
    return np.clip(part / np.maximum(total, 1) * n + scale * (directions * noise).sum(-1), 0, n)
