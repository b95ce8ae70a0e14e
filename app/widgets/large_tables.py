"""Tables that take long are computed on request."""

import streamlit as st

from app.state import controls, settings
from mixtral_probe import tables


def confirm(view: controls.PageView, name: str) -> bool:
    """Return whether to compute a table; for one that reads every token of a large trace, draw a button first."""
    tokens = view.trace.num_tokens
    if tables.TABLES[name].source == "stats" or tokens <= settings.WHOLE_TRACE_TOKENS:
        return True
    key = f"asked_{name}_{view.source.key}"
    if not st.session_state.get(key):
        st.info(f"This reads the routes of all {tokens:,} tokens, which takes a while.")
        st.session_state[key] = st.button("Compute it", key=f"{key}_button", icon=":material/play_arrow:")
    return bool(st.session_state[key])
