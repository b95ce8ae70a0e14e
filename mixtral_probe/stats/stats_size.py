"""The size of a file of statistics, estimated before a run."""

import numpy as np
import pandas as pd

from mixtral_probe.stats.blocks import MAX_BLOCKS
from mixtral_probe.stats.groups import LABEL

_TARGETS, _FOLDS = 3, 16
"""Of the counts of token types: input, predicted and true next token, each in 16 folds of documents."""
_HISTOGRAM = 5 * 128 * 4
"""Bytes of the histograms of one layer and group."""


def statistics_bytes(
    documents: pd.DataFrame, tokens: pd.DataFrame, *, layers: int, experts: int, chosen: int, new_tokens: int = 0
) -> int:
    """Return at most how many bytes the statistics of a run take on disk.

    Args:
        documents: of the run, with labels.
        tokens: document and token_id of each.
        layers: L.
        experts: E.
        chosen: K.
        new_tokens: that each document is continued by at most.
    """
    groups = documents[LABEL].nunique(dropna=False) if LABEL in documents else 1
    types = _types_by_fold(tokens, groups) + new_tokens * len(documents)
    cells = min(len(documents), MAX_BLOCKS * groups)
    each_cell = 4 * (3 * experts**2 + 2 * chosen * experts + 40 * experts + 200)
    return layers * (cells * each_cell + groups * _HISTOGRAM) + _TARGETS * types * (8 + 2 * layers * experts)


def _types_by_fold(tokens: pd.DataFrame, groups: int) -> int:
    """At most how many pairs of a token type and a fold of a group occur: each document is in one of them."""
    document, token = (tokens[name].to_numpy().astype(np.int64) for name in ("document", "token_id"))
    pairs = len(np.unique(document << 32 | token))
    return min(pairs, _FOLDS * groups * len(np.unique(token)))
