"""Where the time and memory of a forward pass went: `timing`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.trace import Result, TimingResult

Floats = NDArray[np.float64]
KEYS = ("layer", "part", "site", "expert")
PART = {
    "embedding": "embedding",
    "attention_input": "norms",
    "query": "attention",
    "key": "attention",
    "value": "attention",
    "head_output": "attention",
    "attention_output": "attention",
    "router_input": "norms",
    "router_logits": "router",
    "routing": "router",
    "expert_output": "experts",
    "moe_output": "dispatch",
    "residual": "other",
    "logits": "head",
    "forward": "other",
}
"""The part of the forward pass that each site's own work belongs to; the parts make up the whole."""
TIMING = {
    "milliseconds": "median over runs of the time of one run; of a site its own, less what the sites inside it took",
    "milliseconds_plain": "the same of the runs without timers, taken in turns with the others",
    "instrument_cost": "time of a run with timers / that of the neighbouring one without - 1, median over pairs",
    "time_share": "sum of its sites' medians / that of all, in [0, 1]; null of an expert: in proportion to its rows",
    "tokens_per_second": "tokens of a run / time of a run without timers, median",
    "peak_bytes": "most bytes of tensors alive during the work beyond those alive when it began; no kernel's workspace",
    "rows": "rows the expert was given in a run, padding included; null: as many for each of the layer",
    "microseconds_per_row": "time of an expert / its rows, median; null: that of the layer's experts together",
}
COLUMNS = {
    "layer": "layer, from 0; empty = all layers together, or what belongs to none",
    "part": "embedding, norms, attention, router, dispatch = sorting rows by expert, experts, head, other; or whole",
    "site": "the value whose making was timed, as instruments name it; empty = all of the part",
    "expert": "expert, from 0; empty = all of the part",
    "low": "lower end of the 95 % interval of the median over runs, an order statistic; empty when `scope` says why",
    "null": "what `metric` says; empty where it says nothing",
    "n": "tokens of a run without padding; of an expert its rows",
    "scope": "what was timed, how often and by which clock, and what is missing and why",
}
"""What columns mean here."""


def timing(result: Result) -> pd.DataFrame:
    """Time and memory of a forward pass by part, site, layer and expert.

    Columns: layer, part, site, expert, metric, value, low, high, null, n, scope. In each layer, and over all, the time
    shares of the parts sum to that of the whole.

    Raises:
        InputError: the result is of another kind.
    """
    made = _Rows(TimingResult.require(result, "the table timing"))
    return tidy([*_whole(made), *_layers(made), *_parts(made), *_sites(made), *_experts(made)], KEYS)


class _Rows:
    """The arrays of a result, and how rows are made of them."""

    def __init__(self, result: TimingResult) -> None:
        self.result, self.how = result, result.settings
        self.sites, self.places = result.axis("site"), result.axis("place")
        self.site, self.place = result.site_seconds, result.place_seconds  # [L, P, runs], [M, runs]
        self.experts = result.expert_seconds  # [L, E, runs]
        # Sums of medians: they add up as the parts do, and a run that something else held up moves them little.
        self.typical_site, self.typical_place = np.median(self.site, -1), np.median(self.place, -1)  # [L, P], [M]
        self.typical_expert = np.median(self.experts, -1)  # [L, E]
        self.typical_site[:, self.sites.index("expert_output")] = self.typical_expert.sum(1)
        self.whole = self.typical_site.sum() + self.typical_place.sum()
        self.layers = np.arange(len(self.site))
        self.tokens, runs = self.how["tokens"], self.site.shape[-1]
        self.about = (
            f"{runs} {'runs' if runs > 1 else 'run'} after {self.how['warmup']} to warm up; "
            f"{self.how['clock']}; {result.device}, {result.dtype}"
        )

    def time(
        self, keys: dict[str, Any], seconds: Floats, typical: Floats, n: ArrayLike | None = None, null: Any = np.nan
    ) -> Iterator[pd.DataFrame]:
        """Milliseconds of seconds [..., runs], share of their typical seconds [...]; `null` is that of the share."""
        yield self.median(keys, "milliseconds", 1e3 * seconds, n)
        scope = f"{self.about}; of the sites' medians; no interval: made of medians"
        yield rows(keys, "time_share", metrics.ratio(typical, self.whole), null=null, n=self._n(n), scope=scope)

    def median(
        self, keys: dict[str, Any], metric: str, values: Floats, n: ArrayLike | None = None, null: ArrayLike = np.nan
    ) -> pd.DataFrame:
        """Rows of the median over runs of values [..., runs]."""
        low, high = metrics.median_interval(values)
        scope = f"{self.about}; median" + ("; fewer than 6 runs: no interval" if values.shape[-1] < 6 else "")
        return rows(keys, metric, np.median(values, -1), low, high, null=null, n=self._n(n), scope=scope)

    def bytes(
        self, keys: dict[str, Any], name: str, place: Any = ..., n: ArrayLike | None = None
    ) -> Iterator[pd.DataFrame]:
        """The peaks of one of the arrays, where memory was measured."""
        if name in self.result.arrays:
            scope = "one run; counted where torch makes tensors; counted, no interval"
            yield rows(keys, "peak_bytes", self.result[name][place], null=np.nan, n=self._n(n), scope=scope)

    def _n(self, n: ArrayLike | None) -> ArrayLike:
        return self.tokens if n is None else n


def _whole(made: _Rows) -> Iterator[pd.DataFrame]:
    keys = {"part": "whole"}
    timed, plain = made.result.seconds_timed, made.result.seconds_plain
    yield from made.time(keys, made.site.sum((0, 1)) + made.place.sum(0), made.whole)
    yield made.median(keys, "milliseconds_plain", 1e3 * plain)
    yield made.median(keys, "tokens_per_second", metrics.ratio(made.tokens, plain))
    yield made.median(keys, "instrument_cost", metrics.ratio(timed, plain) - 1, null=0.0)
    yield from made.bytes(keys, "place_bytes", made.places.index("forward"))


def _layers(made: _Rows) -> Iterator[pd.DataFrame]:
    keys = {"layer": made.layers, "part": "whole"}
    yield from made.time(keys, made.result.layer_seconds, made.typical_site.sum(1))
    yield from made.bytes(keys, "site_bytes", (slice(None), made.sites.index("residual")))


def _parts(made: _Rows) -> Iterator[pd.DataFrame]:
    """Each part in every layer, and over all layers with what belongs to none."""
    for part in dict.fromkeys(PART.values()):
        own = [number for number, site in enumerate(made.sites) if PART[site] == part]
        outside = [number for number, place in enumerate(made.places) if PART[place] == part]
        in_layers, typical = made.site[:, own].sum(1), made.typical_site[:, own].sum(1)  # [L, runs], [L]
        seconds = in_layers.sum(0) + made.place[outside].sum(0)
        yield from made.time({"part": part}, seconds, typical.sum() + made.typical_place[outside].sum())
        if own:
            yield from made.time({"layer": made.layers, "part": part}, in_layers, typical)


def _sites(made: _Rows) -> Iterator[pd.DataFrame]:
    for number, site in enumerate(made.sites):
        keys = {"layer": made.layers, "part": PART[site], "site": site}
        yield from made.time(keys, made.site[:, number], made.typical_site[:, number])
        yield from made.bytes(keys, "site_bytes", (slice(None), number))
    for number, place in enumerate(made.places):
        keys = {"part": PART[place], "site": place}
        yield from made.time(keys, made.place[number], made.typical_place[number])
        yield from made.bytes(keys, "place_bytes", number)


def _experts(made: _Rows) -> Iterator[pd.DataFrame]:
    given, typical = made.result.expert_rows, made.typical_expert  # [L, E]
    keys = {"layer": made.layers[:, None], "part": "experts", "site": "expert_output"}
    keys |= {"expert": np.arange(given.shape[1])}
    all_rows, layer = given.sum(1, keepdims=True), typical.sum(1, keepdims=True)  # [L, 1]
    in_proportion = metrics.ratio(layer, made.whole) * metrics.ratio(given, all_rows)
    yield from made.time(keys, made.experts, typical, given, in_proportion)
    yield from made.bytes(keys, "expert_bytes", n=given)
    about = (
        f"one run of {made.how['positions']:,} positions, {made.how['tokens']:,} of them tokens; counted, no interval"
    )
    yield rows(keys, "rows", given, null=all_rows / given.shape[1], n=given, scope=about)
    each = 1e6 * metrics.ratio(layer, all_rows)
    speed = made.median(keys, "microseconds_per_row", 1e6 * metrics.ratio(made.experts, given[..., None]), given, each)
    idle = speed["value"].isna()
    yield speed.assign(scope=speed["scope"].mask(idle, speed["scope"] + "; not enough data: it was given no row"))
