"""The route of the picked token and, next to it, that of a pinned one with the experts both have in common."""

import streamlit as st

from app.state import address, controls, sources
from app.widgets import charts, documents, texts, values
from mixtral_probe import figures, tables

_PINNED = "pinned_token"
"""In the address: document and row in it, such as 3.17."""


def section(view: controls.PageView, excerpt: documents.Excerpt, row: int) -> None:
    """Draw the routes, and the buttons that pin and unpin.

    Args:
        view: what the page is about.
        excerpt: of the document.
        row: of the token, in the document.
    """
    texts.where_note("every choice of the token")
    current, pinned = (excerpt.number, row), pinned_token(view)
    _buttons(current, pinned)
    if pinned is None or pinned == current:
        _route(view, current, "route")
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Pinned", anchor=False)
        _route(view, pinned, "pinned_route")
    with right:
        st.subheader("Now", anchor=False)
        _route(view, current, "route")
    _overlap(view, pinned, current)


def pinned_token(view: controls.PageView) -> tuple[int, int] | None:
    """Return document and row of the pinned token; an unknown one in the address is warned of and dropped."""
    text = address.get(_PINNED)
    if not text:
        return None
    number, _, row = text.partition(".")
    if number.isdecimal() and row.isdecimal() and int(number) < view.trace.num_documents:
        rows = view.trace.rows(int(number))
        if int(row) < rows.stop - rows.start:
            return int(number), int(row)
    address.warn_unknown(_PINNED, text, "")
    _unpin()
    return None


def _buttons(current: tuple[int, int], pinned: tuple[int, int] | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if pinned != current:
            st.button("Pin this token", key="pin_token", icon=":material/keep:", on_click=_pin, args=current)
        if pinned is not None:
            st.button("Unpin", key="unpin_token", icon=":material/keep_off:", on_click=_unpin)
        if pinned == current:
            st.caption("This token is pinned; pick another one to see both side by side.")


def _pin(number: int, row: int) -> None:
    address.put(_PINNED, [f"{number}.{row}"])


def _unpin() -> None:
    address.query().pop(_PINNED, None)


def _route(view: controls.PageView, place: tuple[int, int], key: str) -> None:
    """Draw one token's chart, from all its routes, whatever the field *Where* selects."""
    number, row = place
    trace, routes = sources.document(view.source, number), sources.document_table(view.source, "routes", number)
    # Column by column: a row of all of them would need one dtype, which texts with lone surrogates have not.
    chunk, position = (int(trace.tokens[name].iloc[row]) for name in ("chunk", "position"))
    route = routes[((routes["chunk"] == chunk) & (routes["position"] == position)).to_numpy(dtype=bool)]
    if route.empty:
        st.caption(f"The token at position {position} of document {number} went to no expert.")
        return
    route = route.assign(document=number)
    logits = tables.token_logits(trace, chunk=chunk, position=position)
    where = {"document": number, "chunk": chunk, "position": position}
    figure = figures.token_route(route, **where, num_experts=view.stats.num_experts, logits=logits)
    charts.show(figure, route, key, f"route_document_{number}_token_{row}")


def _overlap(view: controls.PageView, pinned: tuple[int, int], current: tuple[int, int]) -> None:
    a, b = (view.trace.rows(number).start + row for number, row in (pinned, current))
    table = tables.route_overlap(view.trace, a, b)
    values.cards(table[table["layer"].isna()], ("shared_experts", "set_jaccard"), scope=True)
    name = "_and_".join(f"document_{number}_token_{row}" for number, row in (pinned, current))
    charts.show(figures.route_overlap(table), table, "route_overlap", f"route_overlap_{name}")
