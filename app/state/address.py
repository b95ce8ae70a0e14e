"""The address bar: the choices of a page under keys that stay, so that a link shows the same view to every reader.

A widget is in the address when `keep` is called for it, right before it is drawn. The address is kept from page to
page, for widgets of other pages too, and written once the page is drawn.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from mixtral_probe import InputError, Selection
from mixtral_probe.selection import Numbers

_SEVERAL = ("document", "layer", "expert")
"""A widget chooses one of these; a `Selection` may name several."""


def read(page: str) -> None:
    """Read the address when a link is opened and when the reader goes back or forward in the browser.

    Args:
        page: whose run begins.
    """
    context = get_script_run_ctx()
    again = context is not None and context.is_history_navigation and len(st.query_params) > 0
    before, st.session_state["address_page"] = st.session_state.get("address_page"), page
    if "address" in st.session_state and not again:
        if page != before:
            st.session_state["address_drawn"] = {}
        return
    for key in st.session_state.get("address_drawn", {}):
        st.session_state.pop(key, None)
    st.session_state["address"] = _narrowed({key: st.query_params.get_all(key) for key in st.query_params})
    st.session_state["address_drawn"] = {}


def keep(
    key: str, options: Sequence[Any], *, default: Any = None, always: bool = False, named: Callable[[Any], str] = str
) -> None:
    """Set a widget to its value in the address, before it is drawn; for an unknown value, warn and use the default.

    Args:
        key: of the widget, and of its part of the address.
        options: of the widget.
        default: the choice at first, otherwise the first option; the address leaves it out.
        always: whether the address has the default too.
        named: gives the name of an option in the address, never a text of the page, which may change; empty: left out.
    """
    fallback = options[0] if default is None else default
    state = st.session_state
    if key not in state or state[key] not in options:
        text = get(key)
        by_name = {named(option): option for option in options}
        state[key] = by_name.get(text, fallback)
        if text and text not in by_name:
            warn_unknown(key, text, named(fallback))
    elif key not in state["address_drawn"]:
        # On another page it is another widget, which keeps only a value that is set anew.
        state[key] = state[key]
    state["address_drawn"][key] = (named, None if always else fallback)


def keep_text(key: str, default: str = "") -> None:
    """Set a field of free text to its value in the address, before it is drawn."""
    st.session_state.setdefault(key, get(key) or default)
    st.session_state["address_drawn"][key] = (str, default)


def get(key: str) -> str:
    """Return the value of a key in the address; empty if it has none."""
    return next(reversed(get_all(key)), "")


def get_all(key: str) -> list[str]:
    """Return all values of a key in the address."""
    return query().get(key, [])


def put(key: str, texts: list[str]) -> None:
    """Write texts under a key that no widget has."""
    query()[key] = texts


def query() -> dict[str, list[str]]:
    """Return the whole address, as `st.switch_page` takes it."""
    texts: dict[str, list[str]] = st.session_state["address"]
    return texts


def write() -> None:
    """Write the widgets of the page to the address."""
    for key, (named, default) in st.session_state["address_drawn"].items():
        if key not in st.session_state:
            continue
        value = st.session_state[key]
        if not named(value) or (value == default and not get(key)):
            query().pop(key, None)
        else:
            put(key, [named(value)])
    if query() != {key: st.query_params.get_all(key) for key in st.query_params}:
        st.query_params.from_dict(query())


def warn_unknown(key: str, text: str, fallback: str) -> None:
    """Warn in one sentence that a value in the address is not available.

    The value may come from anyone, so it is drawn as code, which is never markup.
    """
    code = " ".join(text.replace("`", "'").split())[:60]
    instead = f"; `{fallback}` is shown" if fallback else ""
    st.warning(f"The address names the {key.replace('_', ' ')} `{code}`, which is not here{instead}.")


def _narrowed(query: dict[str, list[str]]) -> dict[str, list[str]]:
    """Rewrite an address that names several layers, documents, experts or tokens, as `Selection.to_query` does.

    The widget gets the first of them, and the field *Where* an expression of all.
    """
    numbers = {key: _numbers(query.get(key, [])) for key in _SEVERAL}
    many = {key: several for key, several in numbers.items() if len(list(islice(several, 2))) > 1}
    rows = [key for key in ("token", *many) if key in query]
    try:
        where = Selection.from_query({key: query[key] for key in (*rows, "where", "slice") if key in query}).expression
    except InputError:
        return query
    if not rows:
        return query
    rest = {key: texts for key, texts in query.items() if key != "token"}
    return rest | {key: [str(next(iter(several)))] for key, several in many.items()} | {"where": [where]}


def _numbers(texts: list[str]) -> Numbers:
    try:
        return Numbers.parse(",".join(texts))
    except InputError:
        return Numbers()
