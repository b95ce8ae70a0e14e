"""What is averaged over documents: `balance_variants` and the map of `expert_relevance`."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, CellMap, cell_map
from mixtral_probe.figures.layers import along_layers, others_behind
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of, shared_scope, subtitle, words_of

VARIANTS = (
    "load_balancing_loss_gshard",
    "load_balancing_loss_sequence",
    "importance_cv_squared",
    "max_violation_batch",
    "inverse_simpson",
    "load_chi_squared",
)


def balance_variants(table: pd.DataFrame, *, metrics: Sequence[str] = VARIANTS, group: str = "all") -> go.Figure:
    """Balance in its other published forms, layer by layer: each with its value at balance and its own scope.

    Args:
        table: `tables.balance_variants`; its other groups are drawn as thin lines behind.
        metrics: some of its metrics, one panel each, if it has a value: some need weights or logits.
        group: the group drawn in full.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    metrics = [name for name in metrics if rows_of(table, name, group)["value"].notna().any()] or metrics
    figure, height = along_layers(table, metrics, group, columns=3)
    shown = table[(table["metric"].isin(list(metrics)) & (table["group"] == group)).to_numpy(bool)]
    shared = shared_scope(shown)
    # A single panel has no title, and the subtitle says its scope.
    for title, metric in zip(figure.layout.annotations, metrics, strict=False):
        own = [part for part in shared_scope(rows_of(shown, metric)) if part not in shared]
        title.text += f'<br><span style="font-size:10.5px">{label(" · ".join(own))}</span>'
    figure.update_traces(showlegend=False)  # what the dotted line is differs by panel
    more = "dotted: uniform routing, for losses even loads"
    about = subtitle(shown, " · ".join(filter(None, [others_behind(table, group), more])))
    return finish(figure, "Balance in other published forms", about, height=height)


def expert_relevance_map(
    table: pd.DataFrame, *, metric: str = "token_selection_ratio", group: str | None = "all"
) -> go.Figure:
    """Layer × expert: how much of a document an expert takes, coloured by its distance from even use.

    A navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.expert_relevance`.
        metric: "token_selection_ratio" or "average_gate_score".
        group: one of its groups; None for one panel per group.

    Raises:
        InputError: the table lacks that metric or group.
    """
    shown = rows_of(table, metric, group)
    way = LAYER_EXPERT if group is not None else CellMap("expert", "layer", "group", LAYER_EXPERT.cell, cell_height=12)
    return cell_map(shown, metric, way, f"Relevance of experts: {words_of(metric).name}", centred=True)
