"""Where the time and memory of a forward pass went: `timing`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.phrases import EVEN_USE, POSITIVE
from mixtral_probe.tables.spec import Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import Result, TimingResult

Floats = NDArray[np.float64]
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
"""The part of the forward pass that the work of each site belongs to; together the parts are the whole."""


@of_result
def timing(result: Result) -> pd.DataFrame:
    """Return time and memory of a forward pass by part, site, layer and expert.

    Columns: layer, part, site, expert, metric, value, corrected, low, high, null, n, scope. In each layer, and over
    all, the time shares of the parts sum to that of the whole.

    Raises:
        InputError: the result is of another kind.
    """
    result = TimingResult.require(result, "the table timing")
    rows = _Rows(result)
    return tidy([*_whole(rows), *_layers(rows), *_parts(rows), *_sites(rows), *_experts(rows)], SPEC)


class _Rows:
    """The arrays of a result, and functions that turn them into rows."""

    def __init__(self, result: TimingResult) -> None:
        self.result, self.how = result, result.settings
        self.sites, self.places = result.axis("site"), result.axis("place")
        if unknown := [name for name in (*self.sites, *self.places) if name not in PART]:
            raise InputError(f"sites of a timing must be those of a forward pass, got {unknown[0]!r}; time it again")
        self.site, self.place = result.site_seconds, result.place_seconds  # [L, P, runs], [M, runs]
        self.experts = result.expert_seconds  # [L, E, runs]
        # Sums of medians: they add up as the parts do, and one run that was delayed changes them little.
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
        """Yield milliseconds of seconds [..., runs], and time shares of typical seconds [...], whose null is `null`."""
        yield self.median(keys, "milliseconds", 1e3 * seconds, n)
        scope = f"{self.about}; of the sites' medians; no interval: made of medians"
        yield rows(keys, "time_share", metrics.ratio(typical, self.whole), null=null, n=self._n(n), scope=scope)

    def median(
        self, keys: dict[str, Any], metric: str, values: Floats, n: ArrayLike | None = None, null: ArrayLike = np.nan
    ) -> pd.DataFrame:
        """Return rows of the median over runs of values [..., runs]."""
        low, high = metrics.median_interval(values)
        scope = f"{self.about}; median" + ("; fewer than 6 runs: no interval" if values.shape[-1] < 6 else "")
        value = np.median(values, -1)
        estimate = np.where(np.isnan(low), np.nan, value)
        return rows(keys, metric, value, low, high, corrected=estimate, null=null, n=self._n(n), scope=scope)

    def bytes(
        self, keys: dict[str, Any], name: str, place: Any = ..., n: ArrayLike | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield the peaks of one of the arrays, where memory was measured."""
        if name in self.result.arrays:
            scope = "one run; counted where torch makes tensors; counted, no interval"
            yield rows(keys, "peak_bytes", self.result[name][place], null=np.nan, n=self._n(n), scope=scope)

    def _n(self, n: ArrayLike | None) -> ArrayLike:
        return self.tokens if n is None else n


def _whole(of: _Rows) -> Iterator[pd.DataFrame]:
    keys = {"part": "whole"}
    timed, plain = of.result.seconds_timed, of.result.seconds_plain
    yield from of.time(keys, of.site.sum((0, 1)) + of.place.sum(0), of.whole)
    yield of.median(keys, "milliseconds_plain", 1e3 * plain)
    yield of.median(keys, "tokens_per_second", metrics.ratio(of.tokens, plain))
    yield of.median(keys, "instrument_cost", metrics.ratio(timed, plain) - 1, null=0.0)
    yield from of.bytes(keys, "place_bytes", of.places.index("forward"))


def _layers(of: _Rows) -> Iterator[pd.DataFrame]:
    keys = {"layer": of.layers, "part": "whole"}
    yield from of.time(keys, of.result.layer_seconds, of.typical_site.sum(1))
    yield from of.bytes(keys, "site_bytes", (slice(None), of.sites.index("residual")))


def _parts(of: _Rows) -> Iterator[pd.DataFrame]:
    """Yield rows of each part in every layer, and over all layers with what belongs to none."""
    for part in dict.fromkeys(PART.values()):
        inside = [number for number, site in enumerate(of.sites) if PART[site] == part]
        outside = [number for number, place in enumerate(of.places) if PART[place] == part]
        in_layers, typical = of.site[:, inside].sum(1), of.typical_site[:, inside].sum(1)  # [L, runs], [L]
        seconds = in_layers.sum(0) + of.place[outside].sum(0)
        yield from of.time({"part": part}, seconds, typical.sum() + of.typical_place[outside].sum())
        if inside:
            yield from of.time({"layer": of.layers, "part": part}, in_layers, typical)


def _sites(of: _Rows) -> Iterator[pd.DataFrame]:
    for number, site in enumerate(of.sites):
        keys = {"layer": of.layers, "part": PART[site], "site": site}
        yield from of.time(keys, of.site[:, number], of.typical_site[:, number])
        yield from of.bytes(keys, "site_bytes", (slice(None), number))
    for number, place in enumerate(of.places):
        keys = {"part": PART[place], "site": place}
        yield from of.time(keys, of.place[number], of.typical_place[number])
        yield from of.bytes(keys, "place_bytes", number)


def _experts(of: _Rows) -> Iterator[pd.DataFrame]:
    batch_rows, typical = of.result.expert_rows, of.typical_expert  # [L, E]
    keys = {"layer": of.layers[:, None], "part": "experts", "site": "expert_output"}
    keys |= {"expert": np.arange(batch_rows.shape[1])}
    all_rows, layer = batch_rows.sum(1, keepdims=True), typical.sum(1, keepdims=True)  # [L, 1]
    in_proportion = metrics.ratio(layer, of.whole) * metrics.ratio(batch_rows, all_rows)
    yield from of.time(keys, of.experts, typical, batch_rows, in_proportion)
    yield from of.bytes(keys, "expert_bytes", n=batch_rows)
    about = f"one run of {of.how['positions']:,} positions, {of.how['tokens']:,} of them tokens; counted, no interval"
    yield rows(keys, "rows", batch_rows, null=all_rows / batch_rows.shape[1], n=batch_rows, scope=about)
    each = 1e6 * metrics.ratio(layer, all_rows)
    speed = of.median(
        keys, "microseconds_per_row", 1e6 * metrics.ratio(of.experts, batch_rows[..., None]), batch_rows, each
    )
    idle = speed["value"].isna()
    yield speed.assign(scope=speed["scope"].mask(idle, speed["scope"] + "; not enough data: it was given no row"))


SPEC = TableSpec(
    function=timing,
    source="result",
    description="Where the time and memory of a forward pass went, by part, site, layer and expert.",
    keys=("layer", "part", "site", "expert"),
    metrics={
        "milliseconds": Metric(
            "median over runs of the time of one run; of a site its own, less what the sites inside it took",
            "time, ms",
        ),
        "milliseconds_plain": Metric(
            "the same of the runs without timers, taken in turns with the others",
            "time without timers, ms",
            bounds=POSITIVE,
        ),
        "instrument_cost": Metric(
            "time of a run with timers / that of the neighbouring one without - 1, median over pairs",
            "cost of timing",
            "+.1%",
            null="free",
        ),
        "time_share": Metric(
            "sum of its sites' medians / that of all, in [0, 1]; null of an expert: in proportion to its rows",
            "share of the time",
            ".1%",
            null="in proportion to rows",
        ),
        "tokens_per_second": Metric(
            "tokens of a run / time of a run without timers, median", "tokens per second", ",.0f", POSITIVE
        ),
        "peak_bytes": Metric(
            "most bytes of tensors alive during the work beyond those alive when it began; no kernel's workspace",
            "memory at the peak, bytes",
            ",.0f",
            POSITIVE,
        ),
        "rows": Metric(
            "rows the expert was given in a run, padding included; null: as many for each expert of the layer",
            "rows in its batch",
            ",.0f",
            POSITIVE,
            EVEN_USE,
        ),
        "microseconds_per_row": Metric(
            "time of an expert / its rows, median; null: that of the layer's experts together",
            "time per row, µs",
            bounds=POSITIVE,
            null="the layer's experts together",
        ),
    },
    figures=(Drawing("timing"),),
    narrows=False,
    meanings={
        "layer": Column("layer, from 0; empty = all layers together, or what belongs to none", "Int64"),
        "part": Column(
            "embedding, norms, attention, router, dispatch = sorting rows by expert, experts, head, other; or whole",
            "str",
        ),
        "site": Column("the value whose making was timed, as instruments name it; empty = all of the part", "str"),
        "expert": Column("expert, from 0; empty = all of the part", "Int64"),
        "corrected": Column("the value again where there is an interval: a median is not corrected", "float64"),
        "low": Column(
            "lower end of the 95 % interval of the median over runs, an order statistic; empty when `scope` says why",
            "float64",
        ),
        "null": Column("what `metric` says; empty where it says nothing", "float64"),
        "n": Column("tokens of a run without padding; of an expert its rows", "Int64"),
        "scope": Column("what was timed, how often and by which clock, and what is missing and why", "str"),
    },
)
