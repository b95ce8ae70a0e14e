"""What takes a while is computed when it is asked for."""

import streamlit as st

from app.state import controls, settings
from mixtral_probe import tables


def confirm(view: controls.PageView, name: str) -> bool:
    """Whether a table may be computed; one that reads every token of a large trace asks first."""
    tokens = view.trace.num_tokens
    if tables.TABLES[name].source == "stats" or tokens <= settings.WHOLE_TRACE_TOKENS:
        return True
    asked = f"asked_{name}_{view.source.key}"
    if not st.session_state.get(asked):
        st.info(f"This reads the routes of all {tokens:,} tokens, which takes a while.")
        st.session_state[asked] = st.button("Compute it", key=f"{asked}_button", icon=":material/play_arrow:")
    return bool(st.session_state[asked])
