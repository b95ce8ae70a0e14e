"""Experts as functions, as heat maps: `saliency`, `ablation`, `expert_similarity`, `norm_gate_ranks`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, CellMap, cell_map
from mixtral_probe.figures.words import rows_of, words_of


def saliency(table: pd.DataFrame, *, metric: str = "reap", group: str = "all") -> go.Figure:
    """Layer × expert: how much each expert adds, a navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.saliency`.
        metric: one of its metrics.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    title = f"Experts: {words_of(metric).name}"
    return cell_map(rows_of(table, metric, group), metric, LAYER_EXPERT, title, centred=False)


def ablation(
    table: pd.DataFrame, *, metric: str = "loss_increase_beyond_placebo", group: str = "all"
) -> go.Figure:  # fmt: skip
    """Layer × expert: what is lost without each, a navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.ablation`.
        metric: one of its metrics; those beyond the placebo need one.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    title = f"Without an expert: {words_of(metric).name}, nats per token"
    return cell_map(rows_of(table, metric, group), metric, LAYER_EXPERT, title, centred=True)


def expert_similarity(
    table: pd.DataFrame, *, metric: str = "weight_cosine", layer: int | None = None
) -> go.Figure:  # fmt: skip
    """Expert × expert: how alike they are, a panel per layer; customdata [expert, other_expert].

    Args:
        table: `tables.expert_similarity`.
        metric: one of its metrics that pairs of experts have.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer.
    """
    way = CellMap("other_expert", "expert", "layer", ("expert", "other_expert"))
    title = f"Pairs of experts: {words_of(metric).name}"
    return cell_map(rows_of(table, metric, layer=layer), metric, way, title, centred=True)


def norm_gate_ranks(table: pd.DataFrame, *, layer: int | None = None) -> go.Figure:
    """Place in the router's order × place by output length, a panel per layer; customdata [gate_rank, norm_rank].

    Args:
        table: `tables.norm_gate_ranks`.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that layer.
    """
    way = CellMap("norm_rank", "gate_rank", "layer", ("gate_rank", "norm_rank"))
    shown = rows_of(table, "rank_share", layer=layer)
    return cell_map(shown, "rank_share", way, "Does the router prefer long outputs?", centred=True)
