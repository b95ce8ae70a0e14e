"""What is lost without experts: `ablation`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, cell_map
from mixtral_probe.figures.discoveries import with_false_discovery
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of

_TESTED = ("loss_increase", "loss_increase_beyond_placebo")


@of_table
def ablation(
    table: pd.DataFrame, *, metric: str = "loss_increase_beyond_placebo", group: str = "all"
) -> go.Figure:  # fmt: skip
    """Draw layer × expert: what is lost without each, a navigator like `expert_load_map`: customdata [layer, expert].

    Dots are on experts whose false discovery rate, against their placebos, is below 5 %.

    Args:
        table: `tables.ablation`.
        metric: one of its metrics; those beyond the placebo need one.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    unit = "" if metric.endswith(("_rank", "_false_discovery")) else ", nats per token"
    title = f"Without an expert: {metric_of(metric).label}{unit}"
    rows = rows_of(table, metric, group)
    if metric in _TESTED:
        rows = with_false_discovery(rows, table, ["layer", "group", "expert"], "loss_increase_false_discovery")
    return cell_map(rows, metric, LAYER_EXPERT, title, centred=True)
