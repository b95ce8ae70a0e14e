"""The one sentence over each table: its most telling row in words, with interval, null and n."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixtral_probe.figures.discoveries import RATE, rate_words, with_false_discovery
from mixtral_probe.figures.words import with_estimate
from mixtral_probe.tables.registry import metric_of


def headline(name: str, table: pd.DataFrame) -> str:
    """Return a sentence about a table; empty where there is nothing to say. Plain text, to be escaped."""
    if note := table.attrs.get("note", ""):
        return f"{note[0].upper()}{note[1:]}."
    sentence = _HEADLINES[name](table) if name in _HEADLINES else ""
    return sentence or ("Not enough data." if "value" in table and table["value"].isna().all() else "")


def telling_row(name: str, table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the row that the sentence about a table names first, column by column; None where there is none.

    Its column `estimate` is the number of the sentence.
    """
    if name not in _TELLING or "metric" not in table:
        return None
    rows = _domains(table) if name == "domain_specialization" else _rows(table, _TELLING[name])
    return None if rows.empty else _extreme(rows)


_TELLING = {
    "expert_load": "share",
    "balance": "max_violation",
    "balance_loss": "load_balancing_loss",
    "balance_loss_breakdown": "excess",
    "domain_specialization": "frequency_difference",
}
"""Table, and the metric whose largest value its sentence begins with."""


def _rows(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric with a value, of every document, layer by layer."""
    mask = (table["metric"] == metric) & table["value"].notna() & table["layer"].notna()
    return with_estimate(table[mask & (table["group"] == "all")] if "group" in table else table[mask])


def _numbers(row: Mapping[str, Any]) -> str:
    """Return a row's estimate with interval, what it is set against, and n."""
    quantity = metric_of(str(row["metric"]))
    text = quantity.text
    interval = "" if pd.isna(row["low"]) else f"95 % interval {text(row['low'])} to {text(row['high'])}; "
    names = quantity.references(row.keys())
    against = [f"{name} {text(row[key])}" for key, name in names.items() if len(names) == 1 or pd.notna(row[key])]
    return f"{text(row['estimate'])} ({interval}{', '.join(against)}; n = {int(row['n']):,})"


def _extreme(rows: pd.DataFrame, *, largest: bool = True) -> dict[str, Any]:
    """Return the row of the largest or smallest estimate."""
    estimates = rows["estimate"].to_numpy(float)
    return _row(rows, int(np.argmax(estimates) if largest else np.argmin(estimates)))


def _row(rows: pd.DataFrame, place: int) -> dict[str, Any]:
    """Return one row, column by column: a Series needs one dtype for all, which texts with lone surrogates lack."""
    return {str(name): rows[name].iloc[place] for name in rows.columns}


def _expert_load(table: pd.DataFrame) -> str:
    rows = _rows(table, "share")
    if rows.empty:
        return ""
    most, least = _extreme(rows), _extreme(rows, largest=False)
    return (
        f"The most used expert is expert {most['expert']} of layer {most['layer']}: {_numbers(most)} of its layer's "
        f"assignments; the least used is expert {least['expert']} of layer {least['layer']}: {_numbers(least)}."
    )


def _load_by_rank(table: pd.DataFrame) -> str:
    rows = _rows(table, "rank_share")
    rows = rows[rows["rank"] == 0]
    if rows.empty:
        return ""
    top = _extreme(rows)
    return (
        f"Expert {top['expert']} of layer {top['layer']} is most often the first choice: "
        f"of {_numbers(top)} of the tokens."
    )


def _balance(table: pd.DataFrame) -> str:
    rows, dead = _rows(table, "max_violation"), _rows(table, "dead_experts")
    if rows.empty:
        return ""
    worst, best = _extreme(rows), _extreme(rows, largest=False)
    return (
        f"Layer {worst['layer']} is the least balanced, max violation {_numbers(worst)}, layer {best['layer']} the "
        f"most, {_numbers(best)}; {int(dead['value'].sum())} experts were never chosen."
        f"{_cv_squared(table, worst['layer'])}"
    )


def _cv_squared(table: pd.DataFrame, layer: int) -> str:
    """Return a sentence on the layer's squared coefficient of variation, which has an interval."""
    rows = _rows(table, "cv_squared")
    rows = rows[(rows["layer"] == layer).to_numpy(dtype=bool)]
    return "" if rows.empty else f" The CV² of layer {layer} is {_numbers(_row(rows, 0))}."


def _domains(table: pd.DataFrame) -> pd.DataFrame:
    mask = (table["metric"] == "frequency_difference") & table["value"].notna() & (table["group"] != "all")
    return with_estimate(table[mask.to_numpy(dtype=bool)])


def _domain_specialization(table: pd.DataFrame) -> str:
    rows = with_false_discovery(_domains(table), table, ["layer", "group", "expert"])
    if rows.empty:
        return ""
    top = _extreme(rows)
    return (
        f"The expert most specific to one domain is expert {top['expert']} of layer {top['layer']}: of the tokens of "
        f"{top['group']} it takes a share larger by {_numbers(top)} than of all tokens"
        f"{rate_words(top[RATE])}."
    )


def _balance_loss(table: pd.DataFrame) -> str:
    mask = (table["group"] == "all") & table["layer"].isna() & table["value"].notna()
    over = with_estimate(table[mask]).set_index("metric", drop=False)
    if "load_balancing_loss_pooled" not in over.index:
        return ""
    top = _extreme(_rows(table, "load_balancing_loss"))
    pooled, mean = over.loc["load_balancing_loss_pooled"], over.loc["load_balancing_loss_mean"]
    return (
        f"As transformers pools it, the balance loss is {_numbers(pooled)}; the mean of the layers' own losses is "
        f"{_numbers(mean)}, the largest that of layer {top['layer']}: {_numbers(top)}."
    )


def _breakdown(table: pd.DataFrame) -> str:
    rows = _rows(table, "excess")
    if rows.empty:
        return ""
    top = _extreme(rows)
    return f"Expert {top['expert']} of layer {top['layer']} adds most to its layer's loss above 1: {_numbers(top)}."


def _tokens(table: pd.DataFrame) -> str:
    rows = _rows(table, "token_balance_loss")
    if rows.empty:
        return ""
    top = _extreme(rows)
    where = f"position {top['position']} of document {top['document']}"
    part = metric_of("token_balance_loss").text(top["estimate"])
    return f"The largest part of a token is {part}, at {where} in layer {top['layer']}."


def _confidence(table: pd.DataFrame) -> str:
    rows = _rows(table[table["statistic"] == "mean"], "router_entropy")
    if rows.empty:
        return ""
    sure, unsure = _extreme(rows, largest=False), _extreme(rows)
    return (
        f"The router is surest in layer {sure['layer']}, mean entropy {_numbers(sure)}, and least sure in "
        f"layer {unsure['layer']}, {_numbers(unsure)}."
    )


def _heads(table: pd.DataFrame) -> str:
    rows = _rows(table, "sink_share")
    if rows.empty:
        return ""
    top = _extreme(rows)
    return f"Head {top['head']} of layer {top['layer']} rests most on the first position: {_numbers(top)}."


def _routes(table: pd.DataFrame) -> str:
    tokens = table[["document", "chunk", "position"]].drop_duplicates()
    return f"{len(table):,} choices of {len(tokens):,} tokens in {table['layer'].nunique()} layers."


_HEADLINES: dict[str, Callable[[pd.DataFrame], str]] = {
    "routes": _routes,
    "expert_load": _expert_load,
    "load_by_rank": _load_by_rank,
    "balance": _balance,
    "domain_specialization": _domain_specialization,
    "balance_loss": _balance_loss,
    "balance_loss_breakdown": _breakdown,
    "balance_loss_tokens": _tokens,
    "router_confidence": _confidence,
    "attention_summary": _heads,
}
