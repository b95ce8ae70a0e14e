"""Legends of the coloured text, made of numbers and colours only."""

from html import escape

import pandas as pd
import streamlit as st

from mixtral_probe import figures
from mixtral_probe.tables.registry import metric_of


def experts(in_document: pd.DataFrame, in_group: pd.DataFrame, group: str) -> None:
    """Draw a swatch per expert with its share in this document and, smaller, in the chosen group.

    Args:
        in_document: rows of `load_by_rank` of one document, one per expert.
        in_group: the same of the chosen group.
        group: its name.
    """
    colors, text = figures.expert_colors(len(in_document)), metric_of("rank_share").text
    items = "".join(
        f'<li><span style="background:{color}"></span><b>{int(row["expert"])}</b> {text(row["value"])}'
        f"<small>{text(all_['value'])}</small></li>"
        for color, (_, row), (_, all_) in zip(colors, in_document.iterrows(), in_group.iterrows(), strict=True)
    )
    st.html(f'<ul class="swatches" aria-label="Experts, their colours and shares">{items}</ul>')
    n, of = _count(in_document), _count(in_group)
    where = "all documents" if group == "all" else group
    st.caption(
        f"Expert, its share of this document's tokens (n = {n}), and small its share in {where} (n = {of}); "
        "special tokens out."
    )


def scale(low: float, high: float, what: str, dark: bool) -> None:
    """Draw a colour ramp with the values of its ends."""
    stops = ", ".join(f"{color} {place:.0%}" for place, color in figures.scales(dark)["sequential"])
    st.html(
        f'<div class="ramp"><span>{low:.3f}</span>'
        f'<span class="ground" style="background:linear-gradient(90deg,{stops})"></span>'
        f'<span>{high:.3f}</span><span class="what">{escape(what)}</span></div>'
    )


def _count(table: pd.DataFrame) -> str:
    n = table["n"].max()
    return "not given" if pd.isna(n) else f"{int(n):,}"
