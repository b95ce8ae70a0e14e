"""What each expert adds to the load-balancing loss and what pooling hides: `balance_loss_breakdown`."""

import numpy as np
import pandas as pd

from mixtral_probe.stats import ALL, RoutingStats
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums, estimate_of_groups
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.losses.loss_chance import LossChance
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.losses.metric_rows import LossMetric, loss_rows
from mixtral_probe.tables.phrases import BALANCED, INDEPENDENT, NO_LOGITS, PERMUTED_EXPERTS
from mixtral_probe.tables.spec import VALUES_WITH_BALANCED, Drawing, Metric, TableSpec


@of_stats
def balance_loss_breakdown(stats: RoutingStats) -> pd.DataFrame:
    """Return what each expert adds to the loss, and what pooling hides, in exact parts.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, balanced, n, scope.
    Over experts, `contribution` sums to the layer's loss and `excess` to loss - 1. `pooling_gap_groups` (in the rows of
    group "all", when there are groups) sums to the token-weighted mean of the groups' losses minus the loss of "all";
    the groups' shares of the tokens are held fixed, as a corpus that was put together by topic has them.
    `pooling_gap_layers` (empty layer) sums to the mean of the layers' losses minus pooled loss / K.
    """
    sums, experts = GroupedSums.of(stats), {"expert": np.arange(stats.num_experts)}
    parts = [loss_rows(sums, metric, SPEC.metrics[metric.name], experts) for metric in _parts(stats)]
    balanced = dict.fromkeys(SPEC.metrics, 0.0) | {"contribution": 1 / stats.num_experts}
    return tidy(parts if stats.by is None else [*parts, _group_gaps(sums)], SPEC, balanced)


def _parts(stats: RoutingStats) -> list[LossMetric]:
    parts, chance = LossParts(stats.num_experts_per_tok), LossChance(stats.num_experts_per_tok)
    even, squares = 1 / stats.num_experts, max(len(stats.layers) - 1, 1)
    excess = "one layer; E (f - 1/E)(P - 1/E); sums to the loss - 1"
    layers = "E Cov(f, P) over layers; sums to mean of layers' losses - pooled loss / K"
    return [
        LossMetric("contribution", parts.contribution, chance.contribution, even, "one layer; E f P; sums to the loss"),
        LossMetric("excess", parts.excess, chance.excess, 0, excess, curvature=1),
        LossMetric("pooling_gap_layers", parts.gap_layers, chance.gap_layers, 0, layers, "all layers", 1 / squares),
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
    null = LossChance(stats.num_experts_per_tok).gap_groups(total)
    return estimate_rows(
        keys, _GROUP_GAP, estimate, null, tokens, f"{_OVER_GROUPS}; {sums.tokens_scope}; {PERMUTED_EXPERTS}"
    )


_GROUP_GAP = "pooling_gap_groups"
_OVER_GROUPS = (
    "one layer; E Cov(f, P) over groups, their shares of tokens fixed; sums to mean of groups' losses - loss of all"
)
SPEC = TableSpec(
    function=balance_loss_breakdown,
    source="stats",
    description="What each expert adds to the load-balancing loss and what pooling hides, in exact parts.",
    keys=("layer", "group", "expert"),
    values=VALUES_WITH_BALANCED,
    metrics={
        "contribution": Metric(
            "E f P; over experts it sums to the layer's loss; null: independent routing",
            "contribution E f P",
            null=INDEPENDENT,
            balanced=BALANCED,
        ),
        "excess": Metric(
            "E (f - 1/E)(P - 1/E); over experts it sums to the layer's loss - 1; null: independent routing",
            "excess E (f − 1/E)(P − 1/E)",
            ".2g",
            null=INDEPENDENT,
            balanced=BALANCED,
        ),
        "pooling_gap_groups": Metric(
            "E Cov(f, P) over groups; sums to mean of the groups' losses - loss of all; null: independent routing",
            "hidden by pooling groups",
            ".2g",
            null=INDEPENDENT,
            balanced="groups alike",
        ),
        "pooling_gap_layers": Metric(
            "E Cov(f, P) over layers; sums to mean of the layers' losses - pooled loss / K; null: independent routing",
            "hidden by pooling layers",
            ".2g",
            null=INDEPENDENT,
            balanced="layers alike",
        ),
    },
    figures=(
        Drawing("balance_loss_breakdown"),
        Drawing("balance_loss_breakdown", {"group": None}, grouped=True),
    ),
    narrows=True,
)
