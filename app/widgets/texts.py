"""Titles and notes of pages."""

import streamlit as st

from app.state import controls


def title(name: str, about: str) -> None:
    """Draw a page's name and what it is about."""
    st.title(name, anchor=False)
    st.caption(about)


def welcome() -> None:
    """Draw an introduction for a first visit, until it is closed."""
    if st.session_state.get("welcomed"):
        return
    with st.container(border=True):
        st.markdown(
            "**Welcome.** In every layer of a Mixtral model a router sends each token to a few of the layer's experts; "
            "this dashboard shows what the routers of one recorded run did. "
            "Choose the trace, the layer and a domain on the left: every page follows, and the address bar keeps them. "
            "Every number comes with what was counted and how often, every chart has its table and its CSV."
        )
        st.button("Got it", key="welcome_close", on_click=_close_welcome)


def _close_welcome() -> None:
    st.session_state["welcomed"] = True


def where_note(about: str) -> None:
    """Say in one sentence that the field *Where* does not narrow a section, while it has an expression.

    Args:
        about: the subject of the section.
    """
    view = controls.current()
    if view is not None and view.where is not None:
        st.caption(f":material/filter_alt_off: The expression in **Where** does not narrow this: it is about {about}.")
