"""The address bar: what is chosen, by keys that last, so that a link shows the same view to everybody.

A widget is in the address when `keep` is called for it, right before it is drawn. What the address says is held from
page to page, for widgets of other pages too, and written once the page is drawn.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from mixtral_probe import InputError, Selection
from mixtral_probe.selection import Numbers

_SEVERAL = ("document", "layer", "expert")
"""Widgets choose one of these; a `Selection` may name several."""


def read(page: str) -> None:
    """Take the address in, when a link was opened and when the reader goes back or forward in the browser.

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
    """Set a widget to what the address says, before it is drawn; what is not offered is told of and falls back.

    Args:
        key: of the widget, and of its part of the address.
        options: what the widget offers.
        default: what is chosen at first, otherwise the first option; it needs no place in the address.
        always: whether the address holds the default too.
        named: the option in the address; it is never a text for people, which may change. Empty: left out.
    """
    fallback = options[0] if default is None else default
    state = st.session_state
    if key not in state or state[key] not in options:
        asked = get(key)
        found = {named(option): option for option in options}
        state[key] = found.get(asked, fallback)
        if asked and asked not in found:
            warn_unknown(key, asked, named(fallback))
    elif key not in state["address_drawn"]:
        # On another page it is another widget, which takes over only what is set.
        state[key] = state[key]
    state["address_drawn"][key] = (named, None if always else fallback)


def keep_text(key: str, default: str = "") -> None:
    """As `keep`, for a field in which anything may be written."""
    st.session_state.setdefault(key, get(key) or default)
    st.session_state["address_drawn"][key] = (str, default)


def get(key: str) -> str:
    """What the address says under a key; empty if nothing."""
    return next(reversed(get_all(key)), "")


def get_all(key: str) -> list[str]:
    """All that the address says under a key that no widget has."""
    return query().get(key, [])


def put(key: str, texts: list[str]) -> None:
    """Say something under a key that no widget has."""
    query()[key] = texts


def query() -> dict[str, list[str]]:
    """The whole address, as `st.switch_page` takes it."""
    found: dict[str, list[str]] = st.session_state["address"]
    return found


def write() -> None:
    """Bring the address up to date with the widgets of the page."""
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


def warn_unknown(key: str, asked: str, shown: str) -> None:
    """Tell in one sentence that what the address asks for is not here.

    It is somebody's text, so it is shown as code, which is never markup.
    """
    code = " ".join(asked.replace("`", "'").split())[:60]
    instead = f"; `{shown}` is shown" if shown else ""
    st.warning(f"The address names the {key.replace('_', ' ')} `{code}`, which is not here{instead}.")


def _narrowed(query: dict[str, list[str]]) -> dict[str, list[str]]:
    """An address that names several layers, documents or experts, or tokens, as `Selection.to_query` writes it.

    The widget shows the first of them, and the field *Where* says the rest.
    """
    numbers = {key: _numbers(query.get(key, [])) for key in _SEVERAL}
    many = {key: found for key, found in numbers.items() if len(list(islice(found, 2))) > 1}
    rows = [key for key in ("token", *many) if key in query]
    try:
        where = Selection.from_query({key: query[key] for key in (*rows, "where", "slice") if key in query}).expression
    except InputError:
        return query
    if not rows:
        return query
    rest = {key: texts for key, texts in query.items() if key != "token"}
    return rest | {key: [str(next(iter(found)))] for key, found in many.items()} | {"where": [where]}


def _numbers(texts: list[str]) -> Numbers:
    try:
        return Numbers.parse(",".join(texts))
    except InputError:
        return Numbers()
