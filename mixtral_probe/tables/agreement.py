"""Two or more traces of the same texts, token by token: `agreement`, `saturation`."""

from collections.abc import Callable, Mapping
from math import comb
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import ALL, PairedStats, pair, with_all
from mixtral_probe.tables.frame import estimate, estimate_rows, tidy
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
AGREEMENT = {
    "set_overlap": "mean share of a token's K experts that both traces chose; K/E by chance",
    "first_agreement": "share of tokens with the same first choice; 1/E by chance",
    "same_set": "share of tokens with the same K experts",
    "set_jaccard": "mean of experts that both chose / experts that either chose",
    "set_hamming": "mean number of experts that one of the two chose and the other did not; null 2K (1 - K/E)",
    "any_layer_differs": "share of tokens whose experts differ in at least one layer; null: independent layers",
    "share_change": "share of assignments in the second trace less that in the first; null 0; the interval is paired",
}
SATURATION = {
    "saturation": "mean share of a token's K experts that are those of the last step; K/E by chance (OLMoE, eq. 5)",
    "saturation_first": "share of tokens whose first choice is that of the last step; 1/E by chance",
}


def agreement(a: Trace, b: Trace, *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """How far two traces of the same texts agree, and which experts gained and lost from the first to the second.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope. Rows without a layer are about all layers;
    only those of `share_change` have an expert. Intervals leave out documents from both traces at once.

    Args:
        a: a trace.
        b: another of the same texts: another model, a later step of training, another precision.
        by: a label of A's documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: the traces are of different texts, or of models of different shape; or there is no such label.
    """
    paired = pair(a, b, by, include_special=include_special)
    words = "all tokens" if include_special else "special tokens out"
    parts = [*_alike(paired, {name: name for name in _FORMULAS}, words), _differing(paired, words)]
    return tidy([*parts, _changes(paired, words)], ("layer", "group", "expert"))


def saturation(traces: Mapping[int, Trace], *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """How far each step of training already chose the experts of the last one, on the same texts.

    Columns: step, layer, group, metric, value, low, high, null, n, scope. Rows without a layer are about all layers.

    Args:
        traces: the trace of each step, of the same texts; `training_traces` reads a folder of them.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: fewer than two traces, or traces of different texts or shapes; or there is no such label.
    """
    if len(traces) < 2:
        raise InputError(f"saturation needs the traces of at least two steps, but {len(traces)} came")
    last = traces[max(traces)]
    words = "all tokens" if include_special else "special tokens out"
    names = {"set_overlap": "saturation", "first_agreement": "saturation_first"}
    parts = []
    for step, trace in sorted(traces.items()):
        paired = pair(trace, last, by, include_special=include_special)
        parts += [part.assign(step=step) for part in _alike(paired, names, f"against step {max(traces)}; {words}")]
    return tidy(parts, ("step", "layer", "group"))


def _same_set(common: Counts) -> Floats:
    return metrics.ratio(common[..., -1].sum(-1), common.sum((-1, -2)))


def _nulls(experts: int, chosen: int) -> dict[str, float]:
    chance = metrics.uniform_repetition(experts, chosen)
    return {
        "set_overlap": chance["overlap"],
        "first_agreement": chance["repetition_first"],
        "same_set": 1 / comb(experts, chosen),
        "set_jaccard": metrics.uniform_jaccard(experts, chosen),
        "set_hamming": 2 * chosen * (1 - chance["overlap"]),
    }


_FORMULAS: dict[str, Callable[[Counts], Floats]] = {
    "set_overlap": metrics.overlap,
    "first_agreement": metrics.repetition_first,
    "same_set": _same_set,
    "set_jaccard": metrics.set_jaccard,
    "set_hamming": metrics.set_hamming,
}


def _alike(paired: PairedStats, names: Mapping[str, str], words: str) -> list[pd.DataFrame]:
    """Rows of what is common, by layer and over all layers: agreement may be added over layers, experts may not."""
    common, groups = _with_all(paired, paired.common, 1), _groups(paired)  # [L, G, Bk, 2, K + 1]
    tokens = common.sum((-1, -2))
    nulls = _nulls(paired.load.shape[-1], common.shape[-1] - 1)
    own = {"layer": np.array(paired.layers)[:, None], "group": groups}
    parts = []
    for formula, name in names.items():
        most = 2.0 * (common.shape[-1] - 1) if formula == "set_hamming" else 1.0
        alike = _Metric(name, _FORMULAS[formula], nulls[formula], high=most)
        parts.append(_rows(alike, own, (common,), tokens, f"one layer; {words}", paired.folded))
        parts.append(
            _rows(alike, {"group": groups}, (common.sum(0),), tokens.max(0), f"all layers; {words}", paired.folded)
        )
    return parts


def _differing(paired: PairedStats, words: str) -> pd.DataFrame:
    counts = _with_all(paired, paired.differing, 0)  # [G, Bk, 2]
    experts, chosen = paired.load.shape[-1], paired.common.shape[-1] - 1
    metric = _Metric("any_layer_differs", _moved, 1 - (1 / comb(experts, chosen)) ** len(paired.layers))
    keys = {"group": _groups(paired)}
    return _rows(metric, keys, (counts,), counts.sum(-1), f"all layers; {words}", paired.folded)


def _moved(differing: Counts) -> Floats:
    return metrics.ratio(differing[..., 1], differing.sum(-1))


def _changes(paired: PairedStats, words: str) -> pd.DataFrame:
    before, after = (_with_all(paired, load, 1) for load in paired.load)  # [L, G, Bk, E]
    keys = {
        "layer": np.array(paired.layers).reshape(-1, 1, 1),
        "group": _groups(paired)[:, None],
        "expert": np.arange(before.shape[-1]),
    }
    tokens = _with_all(paired, paired.common.sum((-1, -2)), 1)
    scope = f"one layer; {words}; share of assignments, second less first"
    return _rows(_Metric("share_change", _change, 0.0, -1.0), keys, (before, after), tokens, scope, paired.folded)


def _change(before: Counts, after: Counts) -> Floats:
    return metrics.share(after) - metrics.share(before)


class _Metric(NamedTuple):
    """A metric of these tables."""

    name: str
    formula: Callable[..., Floats]
    null: float
    low: float = 0.0
    high: float = 1.0


def _rows(
    metric: _Metric, keys: Mapping[str, Any], parts: tuple[Counts, ...], sizes: Counts, scope: str, folded: bool
) -> pd.DataFrame:
    """Rows of a formula of counts [..., Bk, tail], of `sizes` [..., Bk] tokens."""
    axis = sizes.ndim - 1
    totals = [part.sum(axis) for part in parts]
    deleted = metric.formula(*(np.expand_dims(total, axis) - part for total, part in zip(totals, parts, strict=True)))
    found = estimate(metric.formula(*totals), deleted, sizes, folded, (metric.low, metric.high))
    return estimate_rows(keys, metric.name, found, metric.null, sizes.sum(-1), scope)


def _groups(paired: PairedStats) -> NDArray[np.object_]:
    return np.array(paired.groups if paired.by is None else [*paired.groups, ALL], dtype=object)


def _with_all(paired: PairedStats, counts: Counts, axis: int) -> Counts:
    """The counts with the sum of the groups appended as a group of its own."""
    return with_all(counts, paired.by, axis)
