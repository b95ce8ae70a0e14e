"""How many experts a router that drops what weighs little would skip: `skipping_simulation`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.load import NO_GATES
from mixtral_probe.tables.windows import Windows, ratio_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
SKIPPING = {
    "skipped_share": "share of tokens whose last choice weighs less than `threshold` times the first; null 0",
    "weight_ratio": "mean weight of a token's last choice / that of its first, in [0, 1]; null: all logits alike, 1",
}
THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)
KEYS = ("layer", "group", "threshold")


def skipping_simulation(
    trace: Trace, *, by: str | None = None, thresholds: Sequence[float] = THRESHOLDS, include_special: bool = False
) -> pd.DataFrame:
    """Tokens that would do without their last expert, as NAEE skips it at run time (Lu et al., 2402.14800, sec. 3.3).

    Columns: layer, group, threshold, metric, value, low, high, null, n, scope. Rows without a layer are about all
    layers; only those of `skipped_share` have a threshold. The paper takes the median of the ratio as threshold.

    Args:
        trace: the trace, with expert weights or router logits.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        thresholds: least ratio of the last weight to the first at which the last expert is kept, in [0, 1].
        include_special: count special tokens too.

    Raises:
        InputError: a threshold outside [0, 1], or no such label.
    """
    if not all(0 <= threshold <= 1 for threshold in thresholds):
        raise InputError(f"a threshold is a ratio of two weights in [0, 1], but {list(thresholds)} came")
    windows = Windows.of(trace, by, include_special=include_special)
    if trace.expert_weights is None and trace.router_logits is None:
        empty = {"group": np.array(windows.groups, dtype=object)}
        return tidy([missing_rows(empty, name, (len(windows.groups),), NO_GATES) for name in SKIPPING], KEYS)
    sums, shape = np.zeros((trace.num_layers, len(windows.rows))), (trace.num_layers, len(windows.rows))
    skipped, tokens = np.zeros((*shape, len(thresholds)), np.int64), np.zeros(shape, np.int64)
    for window, rows in enumerate(windows.rows):
        ratio = _ratios(trace, rows)
        there = np.isfinite(ratio)
        tokens[:, window], sums[:, window] = there.sum(-1), np.where(there, ratio, 0.0).sum(-1)
        skipped[:, window] = (ratio[..., None] < np.array(thresholds)).sum(1)
    n, mass = windows.summed(tokens), windows.summed(sums)
    whole = np.broadcast_to(n[..., None], (*n.shape, len(thresholds)))
    parts = (windows.summed(skipped), whole)
    words = "last choice against the first; null: all logits alike"
    at = {"threshold": np.array(thresholds)}
    none, one = np.zeros((1, 1)), np.ones(1)
    shares = ratio_rows(windows, ("threshold",), "skipped_share", parts, none, n[..., None], words, **at)
    return tidy([shares, ratio_rows(windows, (), "weight_ratio", (mass, n), one, n, words)], KEYS)


def _ratios(trace: Trace, rows: NDArray[np.intp]) -> Floats:
    """[L, T] weight of the last choice / weight of the first; NaN where a token chose fewer than K."""
    ids = np.asarray(trace.expert_ids[:, rows]).astype(np.intp)
    if trace.expert_weights is not None:
        weights = np.asarray(trace.expert_weights[:, rows], np.float64)
    else:
        assert trace.router_logits is not None
        weights, _ = metrics.softmax(np.take_along_axis(np.asarray(trace.router_logits[:, rows]), ids.clip(0), -1))
    return np.where((ids >= 0).all(-1), metrics.ratio(weights.min(-1), weights.max(-1)), np.nan)
