"""Which figures stand in the section of each table."""

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe import figures

Drawing = Callable[[pd.DataFrame], list[go.Figure]]


def draw(name: str, table: pd.DataFrame) -> list[go.Figure]:
    """The figures of a table; none for a table without a value or one no figure is known for."""
    held = table.get("value", table)
    return _DRAWINGS.get(name, _none)(table) if len(held) and held.notna().to_numpy().any() else []


def _none(table: pd.DataFrame) -> list[go.Figure]:
    return []


def _grouped(table: pd.DataFrame) -> bool:
    return table["group"].nunique() > 1


def _expert_load(table: pd.DataFrame) -> list[go.Figure]:
    drawn = [figures.expert_load_map(table), figures.expert_load(table)]
    return [*drawn, figures.expert_load_groups(table)] if _grouped(table) else drawn


def _relevance(table: pd.DataFrame) -> list[go.Figure]:
    drawn = [figures.expert_relevance_map(table), figures.expert_relevance(table)]
    return [*drawn, figures.expert_relevance_map(table, group=None)] if _grouped(table) else drawn


def _context(table: pd.DataFrame) -> list[go.Figure]:
    counts = sorted(int(least) for least in table["min_count"].unique())
    return [figures.context_information(table, min_count=least) for least in counts]


def _topics(table: pd.DataFrame) -> list[go.Figure]:
    return [figures.domain_information(table, metric=name) for name in _TOPICS]


def _breakdown(table: pd.DataFrame) -> list[go.Figure]:
    drawn = [figures.balance_loss_breakdown(table)]
    return [*drawn, figures.balance_loss_breakdown(table, group=None)] if _grouped(table) else drawn


def _heads(table: pd.DataFrame) -> list[go.Figure]:
    return [figures.attention_summary(table, metric=name) for name in ("entropy_bits", "distance", "sink_share")]


def _histograms(table: pd.DataFrame) -> list[go.Figure]:
    return [figures.router_confidence_histogram(table, metric=name) for name in ("router_entropy", "selection_margin")]


def _token_losses(table: pd.DataFrame) -> list[go.Figure]:
    return [figures.balance_loss_tokens(table, **_first_window(table))]


def _first_window(table: pd.DataFrame) -> dict[str, int]:
    return {name: int(table[name].iloc[0]) for name in ("document", "chunk")}


def _routes(table: pd.DataFrame) -> list[go.Figure]:
    """The route of the last token of the first window."""
    keys = _first_window(table)
    window = table[(table["document"] == keys["document"]) & (table["chunk"] == keys["chunk"])]
    return [figures.token_route(table, position=int(window["position"].max()), **keys)]


def _repetition(table: pd.DataFrame) -> list[go.Figure]:
    layers = sorted(int(layer) for layer in table["layer"].unique())
    return [figures.repetition(table), figures.repetition_lags(table, layer=layers[len(layers) // 2])]


def _vocabulary(table: pd.DataFrame) -> list[go.Figure]:
    return [figures.vocabulary_specialization(table, min_count=least) for least in (1, 10)]


_TOPICS = ("mutual_information_bits", "shuffle_p_value")
_DRAWINGS: dict[str, Drawing] = {
    "domain_specialization": lambda table: [figures.domain_specialization(table)],
    "group_divergence": lambda table: [figures.group_divergence(table)],
    "vocabulary_specialization": _vocabulary,
    "mutual_information": lambda table: [figures.mutual_information(table)],
    "domain_information": _topics,
    "context_information": _context,
    "repetition": _repetition,
    "coactivation": lambda table: [figures.coactivation(table)],
    "transitions": lambda table: [figures.transitions(table)],
    "paths": lambda table: [figures.paths(table)],
    "cache_simulation": lambda table: [figures.cache_simulation(table)],
    "placement_simulation": lambda table: [figures.placement_simulation(table)],
    "capacity_simulation": lambda table: [figures.capacity_simulation(table)],
    "skipping_simulation": lambda table: [figures.skipping_simulation(table), figures.weight_ratio(table)],
    "routes": _routes,
    "expert_load": _expert_load,
    "expert_relevance": _relevance,
    "load_by_rank": lambda table: [figures.load_by_rank(table)],
    "balance": lambda table: [figures.balance(table)],
    "balance_variants": lambda table: [figures.balance_variants(table)],
    "balance_loss": lambda table: [figures.balance_loss(table)],
    "balance_loss_breakdown": _breakdown,
    "balance_loss_tokens": _token_losses,
    "router_confidence": lambda table: [figures.router_confidence(table)],
    "router_confidence_histogram": _histograms,
    "attention_summary": _heads,
    "attention_routing": lambda table: [figures.attention_routing(table)],
}
