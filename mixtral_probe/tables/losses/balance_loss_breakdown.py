"""What each expert adds to the load-balancing loss and what pooling hides: `balance_loss_breakdown`."""

import numpy as np
import pandas as pd

from mixtral_probe.stats import ALL, RoutingStats
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_of_groups, estimate_rows
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.losses.metric_rows import LossMetric, loss_rows
from mixtral_probe.tables.phrases import BALANCED, NO_LOGITS
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec


def balance_loss_breakdown(stats: RoutingStats) -> pd.DataFrame:
    """Return what each expert adds to the loss, and what pooling hides, in exact parts.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope.
    Over experts, `contribution` sums to the layer's loss and `excess` to loss - 1. `pooling_gap_groups` (in the rows of
    group "all", when there are groups) sums to the token-weighted mean of the groups' losses minus the loss of "all";
    the groups' shares of the tokens are held fixed, as a corpus that was put together by topic has them.
    `pooling_gap_layers` (empty layer) sums to the mean of the layers' losses minus pooled loss / K.
    """
    sums, experts = GroupedSums.of(stats), {"expert": np.arange(stats.num_experts)}
    parts = [loss_rows(sums, metric, SPEC.metrics[metric.name], experts) for metric in _parts(stats)]
    return tidy(parts if stats.by is None else [*parts, _group_gaps(sums)], SPEC)


def _parts(stats: RoutingStats) -> list[LossMetric]:
    parts = LossParts(stats.num_experts_per_tok)
    layers = "E Cov(f, P) over layers; sums to mean of layers' losses - pooled loss / K"
    return [
        LossMetric("contribution", parts.contribution, 1 / stats.num_experts, "one layer; E f P; sums to the loss"),
        LossMetric("excess", parts.excess, 0, "one layer; E (f - 1/E)(P - 1/E); sums to the loss - 1", curvature=1),
        LossMetric("pooling_gap_layers", parts.gap_layers, 0, layers, "all layers", 1 / max(len(stats.layers) - 1, 1)),
    ]


def _group_gaps(sums: GroupedSums) -> pd.DataFrame:
    stats, tokens = sums.stats, sums.total.tokens[:, -1]
    keys = {
        "layer": np.array(stats.layers)[:, None], "group": ALL, "expert": np.arange(stats.num_experts)
    }  # fmt: skip
    if sums.total.probability is None:
        return missing_rows(keys, _GROUP_GAP, (len(stats.layers), stats.num_experts), NO_LOGITS)
    parts, total = LossParts(stats.num_experts_per_tok), stats.total()
    deleted = parts.gap_groups_without(total, stats.without_block())
    estimate = estimate_of_groups(
        parts.gap_groups(total), deleted, stats.sums.tokens,
        folded=stats.folded, curvature=1 / max(len(stats.groups) - 1, 1),
    )  # fmt: skip
    return estimate_rows(keys, _GROUP_GAP, estimate, 0, tokens, f"{_OVER_GROUPS}; {sums.tokens_scope}")


_GROUP_GAP = "pooling_gap_groups"
_OVER_GROUPS = (
    "one layer; E Cov(f, P) over groups, their shares of tokens fixed; sums to mean of groups' losses - loss of all"
)
SPEC = TableSpec(
    function=balance_loss_breakdown,
    source="stats",
    description="What each expert adds to the load-balancing loss and what pooling hides, in exact parts.",
    keys=("layer", "group", "expert"),
    metrics={
        "contribution": Metric("E f P; over experts it sums to the layer's loss", "contribution E f P", null=BALANCED),
        "excess": Metric(
            "E (f - 1/E)(P - 1/E); over experts it sums to the layer's loss - 1",
            "excess E (f − 1/E)(P − 1/E)",
            ".2g",
            null=BALANCED,
        ),
        "pooling_gap_groups": Metric(
            "E Cov(f, P) over groups; sums to (mean of the groups' losses) - (loss of all)",
            "hidden by pooling groups",
            ".2g",
            null="groups alike",
        ),
        "pooling_gap_layers": Metric(
            "E Cov(f, P) over layers; sums to (mean of the layers' losses) - (pooled loss) / K",
            "hidden by pooling layers",
            ".2g",
            null="layers alike",
        ),
    },
    figures=(
        Drawing("balance_loss_breakdown"),
        Drawing("balance_loss_breakdown", {"group": None}, grouped=True),
    ),
    narrows=True,
)
