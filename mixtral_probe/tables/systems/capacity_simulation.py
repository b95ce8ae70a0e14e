"""What experts of limited capacity would drop: `capacity_simulation`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import POSITION_BUCKETS, position_buckets
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import SHARE, UNIFORM
from mixtral_probe.tables.spec import VALUES_SAME_LOAD, Drawing, Metric, TableSpec
from mixtral_probe.tables.systems.windows import WindowRatio, Windows, ratio_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
FACTORS = (1.0, 1.25, 1.5, 2.0)
_SCOPE = (
    "each window a batch, its end dropped first; null: uniform routing; null_same_load: tokens exchanged among the "
    "windows (exact)"
)


@of_trace
def capacity_simulation(
    trace: Trace, *, by: str | None = None, factors: Sequence[float] = FACTORS, include_special: bool = False
) -> pd.DataFrame:
    """Return what would be dropped if each window were a batch and each expert took only so many of its tokens.

    Columns: layer, group, capacity_factor, bin, left, right, metric, value, corrected, low, high, null, null_same_load,
    n, scope. Rows with a bin are about tokens at the places left to right - 1 of their window, those without about all.
    Rows without a layer are about all layers. In a selection a batch consists of the tokens selected in a layer.

    Both nulls are exact. `null` is uniform routing, where the load before a token is binomial. For `null_same_load` the
    windows of a layer and group exchange their tokens, so that the loads are as they are and the load before a token is
    hypergeometric. From the first null to the second is what uneven loads drop, from the second to the value what is
    dropped because a window has experts of its own.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        factors: capacity factors, each above 0; at 1 an evenly loaded expert is exactly full.
        include_special: count special tokens too.

    Raises:
        InputError: a factor that is not above 0, or no such label.
    """
    if not factors or min(factors) <= 0:
        raise InputError(f"a capacity factor must be above 0, got {list(factors)}")
    windows = Windows.of(trace, by, include_special=include_special)
    dropped, expected, choices, tokens = map(windows.summed, _drops(trace, windows, factors))
    nulls = _ratios(windows, expected.sum(2), choices.sum(2))
    same_load = _ratios(windows, *_exchanged(trace, windows, factors))
    ratio = WindowRatio("dropped_share", dropped, choices, tokens, *nulls, _SCOPE, same_load)
    axes = {"capacity_factor": np.array(factors), "bin": np.arange(POSITION_BUCKETS + 1)}
    return tidy([_with_edges(ratio_rows(windows, ratio, axes))], SPEC)


class _Drops(NamedTuple):
    """Sums over each window, [L, W, F, P + 1]; the last bucket of places: all."""

    dropped: Integers
    expected: Floats
    """What uniform routing would drop."""
    choices: Integers
    tokens: Integers


def _drops(trace: Trace, windows: Windows, factors: Sequence[float]) -> _Drops:
    shape = (trace.num_layers, len(windows.rows), len(factors), POSITION_BUCKETS + 1)
    dropped, choices, tokens = (np.zeros(shape, np.int64) for _ in range(3))
    sums = _Drops(dropped, np.zeros(shape), choices, tokens)
    for window, rows in enumerate(windows.rows):
        ids = np.asarray(trace.expert_ids[:, rows])
        chosen, earlier = ids >= 0, metrics.choice_places(ids, trace.num_experts)  # [L, S, K]
        place = windows.places(ids)  # [1 or L, S]
        bucket = position_buckets(place.clip(0))
        sums.choices[:, window] = _by_bucket(chosen.sum(-1), bucket)[:, None]
        sums.tokens[:, window] = _by_bucket(chosen[..., 0].astype(np.int64), bucket)[:, None]
        for number, factor in enumerate(factors):
            limit, chance = _uniform(trace, windows.lengths[:, window], place, factor)
            full = (earlier >= limit[:, None, None]) & chosen
            sums.dropped[:, window, number] = _by_bucket(full.sum(-1), bucket)
            sums.expected[:, window, number] = _by_bucket(chance * chosen.sum(-1), bucket)
    return sums


def _uniform(
    trace: Trace, lengths: Integers, place: NDArray[np.intp], factor: float
) -> tuple[NDArray[np.int64], Floats]:
    """[1 or L] capacity of an expert, and [1 or L, S] how likely uniform routing drops a choice of each token."""
    about = (trace.num_experts, trace.num_experts_per_tok, factor)
    limit = np.array([metrics.expert_capacity(int(length), *about) for length in lengths])
    # A 0 after the last token, for tokens before the first of a layer (place -1).
    chance = [np.append(metrics.expected_drops(int(length), *about), 0.0) for length in lengths]
    return limit, np.stack([drops[at] for drops, at in zip(chance, place, strict=True)])


def _by_bucket(values: NDArray[Any], bucket: NDArray[np.intp]) -> NDArray[Any]:
    """[L, P + 1] sums of values [L, S] by bucket [1 or L, S] of places, then of all."""
    within = bucket[..., None] == np.arange(POSITION_BUCKETS + 1)
    within[..., -1] = True
    return (values.reshape(len(bucket), -1, values.shape[1]) @ within).reshape(len(values), -1)


def _exchanged(trace: Trace, windows: Windows, factors: Sequence[float]) -> tuple[Floats, Floats]:
    """[L, G, F, P + 1] what is dropped if windows of a group exchange their tokens, and choices [L, G, 1, P + 1]."""
    shape = (trace.num_layers, len(windows.groups))
    dropped = np.zeros((*shape, len(factors), POSITION_BUCKETS + 1))
    choices = np.zeros((*shape, 1, POSITION_BUCKETS + 1))
    counts = windows.counts(trace)
    for group in range(len(windows.groups)):
        of_group = counts[:, windows.of_group(group)].sum(1)  # [L, E]
        for layers, lengths in windows.layer_lengths(group):
            n = of_group[layers]
            choices[layers, group, 0] = _over_places(lengths, n.sum(-1, keepdims=True) / lengths.sum())
            for number, factor in enumerate(factors):
                dropped[layers, group, number] = _exchanged_drops(trace, n, lengths, factor)
    return dropped, choices


def _exchanged_drops(trace: Trace, counts: Integers, lengths: Integers, factor: float) -> Floats:
    """[layers, P + 1] choices that windows of these lengths drop if they exchange their tokens, by place."""
    about = (trace.num_experts, trace.num_experts_per_tok, factor)
    capacity = np.array([metrics.expert_capacity(int(length), *about) for length in lengths])
    total = np.zeros((len(counts), POSITION_BUCKETS + 1))
    for limit in np.unique(capacity):
        alike = lengths[capacity == limit]
        drops = metrics.exchanged_drops(counts, int(lengths.sum()), int(alike.max()), int(limit))
        total += _over_places(alike, drops)
    return total


def _over_places(lengths: Integers, values: Floats) -> Floats:
    """[layers, P + 1] sums over windows of these lengths of what each place has [layers, S or 1], by bucket."""
    place = np.arange(lengths.max())
    windows = (lengths[:, None] > place).sum(0)
    return _by_bucket(values * windows, position_buckets(place)[None])


def _ratios(windows: Windows, top: Floats, bottom: NDArray[Any]) -> tuple[Floats, Floats]:
    """[L, G, F, P + 1] a ratio of the sums of each layer, and [G, F, P + 1] of all layers."""
    return metrics.ratio(top, bottom), metrics.ratio(top.sum(0), bottom.sum(0))


def _with_edges(table: pd.DataFrame) -> pd.DataFrame:
    """Add the edges of bins; bins without a token are left out, and the sum of all becomes rows without a bin."""
    bin_ = table["bin"].to_numpy()
    whole = bin_ == POSITION_BUCKETS
    left = np.where(bin_ == 0, 0, 2.0 ** (bin_ - 1))
    right = np.where(bin_ == POSITION_BUCKETS - 1, np.inf, 2.0**bin_)
    edges = {"left": np.where(whole, np.nan, left), "right": np.where(whole, np.nan, right)}
    table = table.assign(bin=pd.array(np.where(whole, -1, bin_), dtype="Int64"), **edges)
    table.loc[whole, "bin"] = pd.NA
    return table[whole | (table["n"] > 0).to_numpy()]


SPEC = TableSpec(
    function=capacity_simulation,
    source="trace",
    description=(
        "What an expert that takes only so many tokens of a window would drop; bins are places left to right - 1."
    ),
    keys=("layer", "group", "capacity_factor", "bin", "left", "right"),
    metrics={
        "dropped_share": Metric(
            "share of choices beyond ceil(capacity_factor K T / E) tokens of their expert in their window",
            "share of choices dropped",
            ".1%",
            SHARE,
            UNIFORM,
        )
    },
    figures=(Drawing("capacity_simulation"),),
    narrows=True,
    values=VALUES_SAME_LOAD,
)
