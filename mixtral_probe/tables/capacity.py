"""What experts of limited capacity would drop: `capacity_simulation`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import POSITION_BUCKETS, position_buckets
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.windows import Windows, ratio_rows
from mixtral_probe.trace import Trace

CAPACITY = {
    "dropped_share": "share of choices beyond ceil(capacity_factor K T / E) tokens of their expert in their window",
}
FACTORS = (1.0, 1.25, 1.5, 2.0)
KEYS = ("layer", "group", "capacity_factor", "bin", "left", "right")


def capacity_simulation(
    trace: Trace, *, by: str | None = None, factors: Sequence[float] = FACTORS, include_special: bool = False
) -> pd.DataFrame:
    """Choices dropped if each window were a batch of its own and each expert took only so many of its tokens.

    Columns: layer, group, capacity_factor, bin, left, right, metric, value, low, high, null, n, scope. Rows with a bin
    are about tokens at the places left to right - 1 of their window, those without about all. Rows without a layer are
    about all layers. The null is exact: the uniform load before a token is binomial.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        factors: capacity factors, each above 0; at 1 an evenly loaded expert is exactly full.
        include_special: count special tokens too.

    Raises:
        InputError: a factor that is not above 0, or no such label.
    """
    if not factors or min(factors) <= 0:
        raise InputError(f"a capacity factor must be above 0, but {list(factors)} came")
    windows = Windows.of(trace, by, include_special=include_special)
    layers, chosen, experts = trace.num_layers, trace.num_experts_per_tok, trace.num_experts
    shape = (layers, len(windows.rows), len(factors), POSITION_BUCKETS + 1)  # the last: all places
    dropped, choices, tokens = (np.zeros(shape, np.int64) for _ in range(3))
    expected = np.zeros(shape)
    for window, rows in enumerate(windows.rows):
        ids = np.asarray(trace.expert_ids[:, rows])
        place = metrics.choice_places(ids, experts)  # [L, T, K]
        there, bucket = ids >= 0, position_buckets(np.arange(len(rows)))
        choices[:, window] = _by_bucket(there.sum(-1), bucket)[:, None]
        tokens[:, window] = _by_bucket(there[..., 0].astype(np.int64), bucket)[:, None]
        for number, factor in enumerate(factors):
            full = place >= metrics.expert_capacity(len(rows), experts, chosen, factor)
            dropped[:, window, number] = _by_bucket((full & there).sum(-1), bucket)
            chance = metrics.expected_drops(len(rows), experts, chosen, factor)
            expected[:, window, number] = _by_bucket(chance * there.sum(-1), bucket)
    null = metrics.ratio(*(windows.summed(array).sum((0, 2)) for array in (expected, choices)))  # [G, F, P + 1]
    sums = (windows.summed(dropped), windows.summed(choices))
    keys = {"capacity_factor": np.array(factors), "bin": np.arange(POSITION_BUCKETS + 1)}
    scope = "each window a batch, its end dropped first; null: uniform routing"
    table = ratio_rows(
        windows, ("capacity_factor", "bin"), "dropped_share", sums, null, windows.summed(tokens), scope, **keys
    )
    return tidy([_with_edges(table)], KEYS)


def _by_bucket(values: NDArray[np.generic], bucket: NDArray[np.intp]) -> NDArray[np.generic]:
    """[L, P + 1] sums of values [L, T] by bucket of places, then of all."""
    of = bucket[:, None] == np.arange(POSITION_BUCKETS + 1)
    of[:, -1] = True
    return values @ of


def _with_edges(table: pd.DataFrame) -> pd.DataFrame:
    """Bins with their edges; bins without a token are left out, and the sum of all becomes rows without a bin."""
    bin_ = table["bin"].to_numpy()
    whole = bin_ == POSITION_BUCKETS
    left = np.where(bin_ == 0, 0, 2.0 ** (bin_ - 1))
    right = np.where(bin_ == POSITION_BUCKETS - 1, np.inf, 2.0**bin_)
    edges = {"left": np.where(whole, np.nan, left), "right": np.where(whole, np.nan, right)}
    table = table.assign(bin=pd.array(np.where(whole, -1, bin_), dtype="Int64"), **edges)
    table.loc[whole, "bin"] = pd.NA
    return table[whole | (table["n"] > 0).to_numpy()]
