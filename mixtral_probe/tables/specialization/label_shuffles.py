"""Labels of documents shuffled: the loads of groups under exchanged labels, and rows of the tests made of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import rows
from mixtral_probe.tables.phrases import SHARE
from mixtral_probe.tables.spec import Metric

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Counts = NDArray[np.int64]
DRAWS = 199
"""How often the labels are shuffled."""
P_VALUE, FALSE_DISCOVERY = "shuffle_p_value", "shuffle_false_discovery"
LABELS_SHUFFLED = "labels shuffled"
TESTS = {
    P_VALUE: Metric(
        "share of the shuffles, and of the labels as they are, that are as extreme, pooled as `scope` says; null 0.5",
        "p of shuffled labels",
        ".2g",
        SHARE,
        LABELS_SHUFFLED,
    ),
    FALSE_DISCOVERY: Metric(
        "Benjamini-Hochberg: share of false finds if this and all stronger ones are believed; family in `scope`",
        "false discovery rate",
        ".2g",
        SHARE,
        LABELS_SHUFFLED,
    ),
}
"""The metrics of a table with a test by shuffled labels."""
_CELLS = 2**21
"""About how many cells of draws x groups x experts are held at a time."""


class Documents(NamedTuple):
    """Documents of some groups, or bundles of documents of one group where statistics are folded."""

    label: Places
    """[U] which of the groups each belongs to."""
    counts: Counts
    """[L, U, E] choices of each expert."""
    tokens: Counts
    """[L, U]"""
    groups: int
    keys: NDArray[np.uint64]
    """[U] hashes of their ids."""

    @classmethod
    def of(cls, stats: RoutingStats, groups: Sequence[int] | None = None) -> "Documents":
        """Return the documents of some groups of statistics, of all by default."""
        chosen = [*range(len(stats.groups))] if groups is None else [*groups]
        counts = stats.sums.counts[:, chosen].swapaxes(1, 2)  # [L, Bk, G, E]
        tokens = stats.sums.tokens[:, chosen].swapaxes(1, 2)
        layers, blocks, number = tokens.shape
        label, keys = np.tile(np.arange(number), blocks), np.repeat(stats.block_keys, number)
        return cls(label, counts.reshape(layers, -1, counts.shape[-1]), tokens.reshape(layers, -1), number, keys)

    @property
    def numbers(self) -> Counts:
        """[L, G] documents with tokens of each group."""
        member = self.label == np.arange(self.groups)[:, None]
        return ((self.tokens > 0)[:, None] & member).sum(-1)

    def arrangements(self) -> Counts:
        """[L] distinct arrangements of the labels, where groups have no names."""
        return np.array([metrics.distinct_arrangements(sizes, interchangeable=True) for sizes in self.numbers])

    def shuffled(self) -> Iterator[tuple[Places, metrics.GroupLoads]]:
        """Yield some layers [l], and the loads [l, 1 + DRAWS, G, E] of their documents: as labelled, then shuffled.

        The documents of a layer are those with tokens there; the same documents have the same shuffles in all layers.
        """
        present = self.tokens > 0
        size = max(1, _CELLS // ((1 + DRAWS) * self.groups * self.counts.shape[-1]))
        for documents in np.unique(present, axis=0):
            label, layers = self.label[documents], np.flatnonzero((present == documents).all(1))
            labels = np.concatenate([label[None], metrics.shuffled_labels(label, DRAWS, seed=self.keys[documents])])
            for part in np.split(layers, range(size, len(layers), size)):
                counts, tokens = self.counts[part][:, documents], self.tokens[part][:, documents]
                yield part, metrics.group_loads(labels, counts, tokens, groups=self.groups)


def shuffled_values(documents: Documents, *formulas: Callable[[metrics.GroupLoads], Floats]) -> list[Floats]:
    """[1 + DRAWS, L, ...] each formula of the loads of documents as labelled, then shuffled; NaN without tokens."""
    layers, parts = [], []
    for places, loads in documents.shuffled():
        layers.append(places)
        parts.append([np.moveaxis(formula(loads), 0, 1) for formula in formulas])
    order = np.argsort(np.concatenate(layers))
    return [np.concatenate(values, axis=1)[:, order] for values in zip(*parts, strict=True)]


def excess(value: Floats, spread: Floats) -> Floats:
    """[...] a value in parts of what the spread of documents alone gives for it; 0 where there is neither."""
    return np.where(np.isnan(value), np.nan, np.nan_to_num(metrics.ratio(value, spread)))


def chance(values: Floats, spread: Floats) -> Floats:
    """[L] mean of shuffled values [1 + DRAWS, L], in parts of their spread, times the spread of the real groups.

    Unlike the mean alone it does not rise where labels matter, for which groups of mixed documents spread more, nor
    change with the lengths of the documents that a group happens to be given.
    """
    return spread[0] * np.nan_to_num(metrics.ratio(values[1:].mean(0), spread[1:].mean(0)))


class LabelTest(NamedTuple):
    """p-values and false discovery rates of values that are tested together; [...] each."""

    p: Floats
    """NaN where there is none."""
    arrangements: Counts
    """[...] distinct arrangements of the labels."""
    draws: int
    """How often they were shuffled."""
    family: str
    """What is tested together, such as "all layers and groups"."""

    @classmethod
    def of(
        cls, values: Floats, arrangements: ArrayLike, family: str, *, alternative: metrics.Alternative = "greater"
    ) -> "LabelTest":
        """Return the test of values [1 + draws, ...], the first with the labels as they are.

        Args:
            values: missing ones have no p-value.
            arrangements: distinct ones, broadcast against one draw; too few give no p-value.
            family: what is tested together.
            alternative: as in `metrics.studentised_p_values`.
        """
        number = np.broadcast_to(np.asarray(arrangements), values.shape[1:])
        observed = np.where(number >= metrics.MIN_ARRANGEMENTS, values[0], np.nan)
        p = metrics.studentised_p_values(observed, values[1:], alternative=alternative, joint=True)
        return cls(p, number, len(values) - 1, family)

    def rows(
        self, keys: Mapping[str, Any], n: ArrayLike, scope: str, *, folded: bool = False, why: ArrayLike = ""
    ) -> list[pd.DataFrame]:
        """Return the rows of p-values and of false discovery rates, with the reason where there is none.

        Args:
            keys: of the rows, broadcast against p.
            n: tokens, broadcast against p; 0 where there is nothing to test.
            scope: of the rows.
            folded: whether a block may hold several documents.
            why: the reason where values are missing, broadcast against p; empty where it is another one.
        """
        units = "blocks of documents of one group" if folded else "documents"
        what = f"{scope}; labels shuffled over {units} {self.draws} times"
        pooled = f"{what}, standardised and pooled over {self.family}; no interval: a test"
        among = f"{what}; Benjamini-Hochberg over {self.family}; no interval: a test"
        numbers = ((P_VALUE, self.p, 0.5, pooled), (FALSE_DISCOVERY, metrics.false_discovery_rates(self.p), 1.0, among))
        tested, n = np.isfinite(self.p), np.broadcast_to(n, self.p.shape)
        count, missing = np.where(tested, n, 0), f"{scope}; not enough data: " + self._reasons(n, why)
        return [
            rows(keys, name, value, null=null, n=count, scope=np.where(tested, words, missing))
            for name, value, null, words in numbers
        ]

    def _reasons(self, n: NDArray[Any], why: ArrayLike) -> NDArray[np.object_]:
        """[...] why there is no p-value, where there is none."""
        few = [
            f"distinct arrangements of the labels over documents: {number}, {metrics.MIN_ARRANGEMENTS} are needed"
            for number in self.arrangements.ravel()
        ]
        known, other = np.asarray(why, object), np.array(few, object).reshape(self.p.shape)
        return np.where(known != "", known, np.where(n > 0, other, "no tokens"))
