"""Rows of tables, and the reason where there are none."""

import pandas as pd
import streamlit as st

from app.state import controls
from mixtral_probe.stats import ALL


def rows(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """Return the rows with these values."""
    for name, value in keys.items():
        table = table[(table[name] == value).fillna(False).to_numpy(dtype=bool)]
    return table


def explain_missing(table: pd.DataFrame) -> bool:
    """Draw why no row has a value, and return whether that is so."""
    if table["value"].notna().any():
        return False
    scope = str(table["scope"].iloc[0]) if len(table) else "not enough data"
    st.info(scope.split("; ")[-1].capitalize() + ".")
    return True


def group_of(table: pd.DataFrame, view: controls.PageView) -> str:
    """Return the chosen group; where the table has no groups, say so and return all documents."""
    if view.group in set(table["group"]):
        return view.group
    st.caption("Of all documents together.")
    return ALL
