"""Windows as they would be if tokens exchanged their places: real loads and real sets of experts, independent in time.

Tokens are exchanged without replacement, so the loads are those observed, not drawn anew; what an observed value has
beyond these windows is the order of the tokens: that neighbours, and the tokens of one document, resemble each other.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]
EXCHANGES = 20
"""The least number of windows drawn."""
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
