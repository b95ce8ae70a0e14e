"""How far two traces of the same texts agree: `agreement`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import SET_METRICS, PairedStats, pair, with_all
from mixtral_probe.tables.comparisons.paired_rows import common_rows, group_names, pair_scope
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.leave_one_out import BlockFormula
from mixtral_probe.tables.phrases import POSITIVE, SHARE, UNIFORM
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def agreement(a: Trace, b: Trace, *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """Return how far two traces of the same texts agree, and which experts gained and lost from first to second.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope. Rows without a layer are about
    all layers; only those of `share_change` have an expert. Intervals leave out documents from both traces at once.

    Args:
        a: a trace.
        b: another of the same texts: another model, a later step of training, another precision.
        by: a label of A's documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: the traces are of different texts, or of models of different shape; or the label is unknown.
    """
    paired = pair(a, b, by, include_special=include_special)
    scope = pair_scope(a, b, include_special)
    names = ("first_agreement", *SET_METRICS)
    parts = [*common_rows(paired, {name: name for name in names}, scope), _differing_rows(paired, scope)]
    return tidy([*parts, _change_rows(paired, scope)], SPEC)


def _differing_rows(paired: PairedStats, scope: str) -> pd.DataFrame:
    counts = with_all(paired.differing, paired.by, axis=0)[None]  # [1, G, Bk, 2]
    tokens, scope = counts.sum(-1), f"all layers; {scope}"
    null = metrics.ratio(with_all(paired.differing_by_chance, paired.by, axis=0), tokens.sum(-1))
    formula = BlockFormula("any_layer_differs", _differing_share, (counts,), null, tokens.sum(-1), scope)
    return formula.rows({"layer": np.nan, "group": group_names(paired)}, tokens, folded=paired.folded)


def _differing_share(counts: Counts) -> Floats:
    return metrics.ratio(counts[..., 1], counts.sum(-1))


def _change_rows(paired: PairedStats, scope: str) -> pd.DataFrame:
    before, after = (with_all(load, paired.by) for load in paired.load)  # [L, G, Bk, E]
    tokens = with_all(paired.tokens, paired.by)
    keys = {
        "layer": np.array(paired.layers).reshape(-1, 1, 1),
        "group": group_names(paired)[:, None],
        "expert": np.arange(before.shape[-1]),
    }
    scope = f"one layer; {scope}; share of assignments, second less first"
    bounds = SPEC.metrics["share_change"].bounds
    formula = BlockFormula("share_change", _change, (before, after), 0.0, tokens.sum(2), scope, bounds=bounds)
    return formula.rows(keys, tokens[..., None], folded=paired.folded)


def _change(before: Counts, after: Counts) -> Floats:
    return metrics.share(after) - metrics.share(before)


SPEC = TableSpec(
    function=agreement,
    source="traces",
    description="How far two traces of the same texts agree, and which experts gained and lost.",
    keys=("layer", "group", "expert"),
    metrics={
        "set_overlap": Metric(
            "mean share of a token's experts that both traces chose, of the larger number; K/E by chance",
            "experts in common",
            ".1%",
            SHARE,
            UNIFORM,
        ),
        "first_agreement": Metric(
            "share of tokens with the same first choice; 1/E by chance", "same first choice", ".1%", SHARE, UNIFORM
        ),
        "same_set": Metric("share of tokens with the same K experts", "same experts", ".1%", SHARE, UNIFORM),
        "set_jaccard": Metric(
            "mean of experts that both chose / experts that either chose",
            "of both / of either",
            bounds=SHARE,
            null=UNIFORM,
        ),
        "set_hamming": Metric(
            "mean number of experts that one of the two chose and the other did not; null 2K (1 - K/E)",
            "experts of one alone",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "any_layer_differs": Metric(
            "share of tokens whose experts differ in at least one layer; null: uniform routing, each layer on its own",
            "tokens that differ in any layer",
            ".1%",
            SHARE,
            UNIFORM,
        ),
        "share_change": Metric(
            "share of assignments in the second trace less that in the first; null 0; the interval is paired",
            "change of share",
            "+.2%",
            (-1.0, 1.0),
            "no change",
        ),
    },
    figures=(),
    narrows=False,
)
