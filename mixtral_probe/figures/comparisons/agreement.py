"""How far two traces agree: `agreement`, `agreement_experts`."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle

AGREEMENT = ("set_overlap", "first_agreement", "same_set")
"""The metrics drawn by default."""


@of_table
def agreement(table: pd.DataFrame, *, metrics: Sequence[str] = AGREEMENT, group: str = "all") -> go.Figure:
    """Draw how far two traces agree in each layer, with intervals and what chance gives.

    Args:
        table: `tables.agreement`; its other groups are drawn as thin lines behind.
        metrics: some of its metrics that layers have, one panel each.
        group: the group drawn in full.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    whole = table[table["layer"].notna() & table["expert"].isna()]
    figure, height = metric_panels(whole, metrics, group, columns=3)
    rows = whole[whole["metric"].isin(list(metrics)) & (whole["group"] == group)]
    return finish(figure, "Agreement by layer", subtitle(rows, others_behind(table, group)), height=height)


@of_table
def agreement_experts(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Draw layer × expert: which experts gained and lost from the first trace to the second.

    A navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.agreement`.
        group: one of its groups.

    Raises:
        InputError: the table lacks the group.
    """
    rows = rows_of(table, "share_change", group)
    return cell_map(rows, "share_change", LAYER_EXPERT, "Experts that gained and lost", centred=True)
