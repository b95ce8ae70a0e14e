"""Rows of tables, and what to say where there are none."""

import pandas as pd
import streamlit as st

from app.state import controls
from mixtral_probe.stats import ALL


def rows(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in keys.items():
        table = table[(table[name] == value).fillna(False).to_numpy(dtype=bool)]
    return table


def explain_missing(shown: pd.DataFrame) -> bool:
    """Whether no row has a value; then say why."""
    if shown["value"].notna().any():
        return False
    scope = str(shown["scope"].iloc[0]) if len(shown) else "not enough data"
    st.info(scope.split("; ")[-1].capitalize() + ".")
    return True


def group_of(table: pd.DataFrame, view: controls.PageView) -> str:
    """The chosen group, or all documents, with a word about it, where the table is not made by group."""
    if view.group in set(table["group"]):
        return view.group
    st.caption("Of all documents together.")
    return ALL
