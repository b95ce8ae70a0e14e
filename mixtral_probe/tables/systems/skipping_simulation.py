"""How many experts a router that drops what weighs little would skip: `skipping_simulation`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import LOGITS_ALIKE, NO_GATES, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.systems.windows import WindowRatio, Windows, ratio_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)


@of_trace
def skipping_simulation(
    trace: Trace, *, by: str | None = None, thresholds: Sequence[float] = THRESHOLDS, include_special: bool = False
) -> pd.DataFrame:
    """Return how many tokens would do without their last expert, as NAEE skips it (Lu et al., 2402.14800, sec. 3.3).

    Columns: layer, group, threshold, metric, value, corrected, low, high, null, n, scope. Rows without a layer are
    about all layers; only those of `skipped_share` have a threshold. The paper takes the median of the ratio as
    threshold.

    Args:
        trace: the trace, with expert weights or router logits.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        thresholds: least ratio of the last weight to the first at which the last expert is kept, in [0, 1].
        include_special: count special tokens too.

    Raises:
        InputError: a threshold outside [0, 1], or no such label.
    """
    if not all(0 <= threshold <= 1 for threshold in thresholds):
        raise InputError(f"a threshold must be in [0, 1] (a ratio of two weights), got {list(thresholds)}")
    windows = Windows.of(trace, by, include_special=include_special)
    if trace.expert_weights is None and trace.router_logits is None:
        keys = {"group": np.array(windows.groups, dtype=object)}
        return tidy([missing_rows(keys, name, (len(windows.groups),), NO_GATES) for name in SPEC.metrics], SPEC)
    shape = (trace.num_layers, len(windows.rows))
    mass, tokens, skipped = np.zeros(shape), np.zeros(shape, np.int64), np.zeros((*shape, len(thresholds)), np.int64)
    for window, rows in enumerate(windows.rows):
        ratio = _ratios(trace, rows)
        counted = np.isfinite(ratio)
        tokens[:, window], mass[:, window] = counted.sum(-1), np.where(counted, ratio, 0.0).sum(-1)
        skipped[:, window] = (ratio[..., None] < np.array(thresholds)).sum(1)
    sums = windows.summed(skipped), windows.summed(mass), windows.summed(tokens)
    return tidy([*_rows(windows, *sums, np.array(thresholds))], SPEC)


def _rows(
    windows: Windows,
    skipped: NDArray[np.int64],
    mass: Floats,
    tokens: NDArray[np.int64],
    thresholds: NDArray[np.float64],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of both metrics from sums [L, G, Bk], of skipped tokens [L, G, Bk, thresholds]."""
    scope, none, one = "last choice against the first; null: all logits alike", np.zeros(()), np.ones(())
    below = np.broadcast_to(tokens[..., None], skipped.shape)
    share = WindowRatio("skipped_share", skipped, below, tokens[..., None], none, none, scope)
    mean = WindowRatio("weight_ratio", mass, tokens, tokens, one, one, scope)
    return ratio_rows(windows, share, {"threshold": thresholds}), ratio_rows(windows, mean, {})


def _ratios(trace: Trace, rows: NDArray[np.intp]) -> Floats:
    """[L, S] weight of the last choice / weight of the first; NaN where a token chose fewer than K."""
    ids = np.asarray(trace.expert_ids[:, rows]).astype(np.intp)
    if trace.expert_weights is not None:
        weights = np.asarray(trace.expert_weights[:, rows], np.float64)
    else:
        assert trace.router_logits is not None
        weights, _ = metrics.softmax(np.take_along_axis(np.asarray(trace.router_logits[:, rows]), ids.clip(0), -1))
    return np.where((ids >= 0).all(-1), metrics.ratio(weights.min(-1), weights.max(-1)), np.nan)


SPEC = TableSpec(
    function=skipping_simulation,
    source="trace",
    description="How many tokens would do without an expert that weighs little.",
    keys=("layer", "group", "threshold"),
    metrics={
        "skipped_share": Metric(
            "share of tokens with K choices whose last weighs less than `threshold` times the first; null 0",
            "share of tokens that skip an expert",
            ".1%",
            SHARE,
            LOGITS_ALIKE,
        ),
        "weight_ratio": Metric(
            "mean weight of the last of K choices / that of the first, in [0, 1]; null: all logits alike, 1",
            "last weight / first",
            bounds=SHARE,
            null=LOGITS_ALIKE,
        ),
    },
    figures=(Drawing("skipping_simulation"), Drawing("weight_ratio")),
    narrows=True,
)
