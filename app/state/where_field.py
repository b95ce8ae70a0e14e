"""The field *Where*, whose expression selects what every page is about, and the named slices."""

from collections.abc import Iterable

import streamlit as st

from app.state import address, sources
from mixtral_probe import InputError, Selection
from mixtral_probe.selection import SLICES, SelectionError, boxed, unboxed
from mixtral_probe.stats import RoutingStats

_HELP = (
    "Which tokens count in which layer, on every page.\n\n"
    '- `token.is_digit and layer in 2..5`\n- `domain == "code" and not @words`\n- `expert == 3 and weight[3] > 0.7`\n'
    '- `choice[0] in {1, 4..6}`\n- `margin < 0.1 or nll > 5`\n- `token contains "ing"`\n\n'
    "Further names: position, document, id, entropy, probability, logit, token.word, token.length, token.is_special, …"
)


def choose(source: sources.TraceSource, whole: RoutingStats) -> tuple[str | None, RoutingStats]:
    """Draw the field; return the applied expression, or None, and the statistics of what it selects."""
    slices = _slices()
    address.keep_text("where")
    text = st.text_input(
        "Where",
        key="where",
        placeholder="token.is_digit and layer in 2..5",
        help=_HELP,
        max_chars=2_000,
    )
    selection = _read(text, slices)
    where = selection.expression or None
    try:
        stats = sources.stats(source, where)
    except SelectionError as error:
        _show_error(error)
        where, stats = None, whole
    if where is not None:
        _describe_share(stats, whole)
    _slice_choices(selection, slices)
    return where, stats


def with_box(layers: Iterable[int], experts: Iterable[int]) -> str:
    """Return the field's expression within a box of layers and experts; one with a mistake is dropped."""
    try:
        return boxed(st.session_state["where"], layers, experts, slices=_slices())
    except SelectionError:
        return boxed("", layers, experts)


def draw_box_removal() -> bool:
    """Draw a button that removes the box at the beginning of the field; return whether there is one."""
    try:
        rest = unboxed(st.session_state["where"], slices=_slices())
    except SelectionError:
        return False
    if rest is None:
        return False
    st.button("Show all again", key="show_all", icon=":material/select_all:", on_click=_set, args=(rest,))
    return True


def _set(text: str) -> None:
    st.session_state["where"] = text


def _read(text: str, slices: dict[str, str]) -> Selection:
    try:
        return Selection(where=text, slices=tuple(slices.items()))
    except SelectionError as error:
        _show_error(error)
        return Selection(slices=tuple(slices.items()))


def _show_error(error: SelectionError) -> None:
    """Draw the error and its place in the expression; both contain typed text, so neither may become markup."""
    st.error("Not applied:", icon=":material/error:")
    st.text(error.sentence)
    st.code(error.pointer, language=None, wrap_lines=False)


def _describe_share(stats: RoutingStats, whole: RoutingStats) -> None:
    """Say how much of the trace is selected, over all layers."""
    kept, of = int(stats.sums.tokens.sum()), int(whole.sums.tokens.sum())
    share = f"{kept / of:.1%}" if of else "none"
    st.caption(f"Applied: {kept:,} of {of:,} tokens × layers ({share}).")


def _slices() -> dict[str, str]:
    """Return name and expression of this session's slices; at first those in the address."""
    if "slices" not in st.session_state:
        st.session_state["slices"] = _of_the_address()
    slices: dict[str, str] = st.session_state["slices"]
    if slices:
        address.put("slice", [f"{name}:{text}" for name, text in slices.items()])
    return slices


def _of_the_address() -> dict[str, str]:
    try:
        return dict(Selection.from_query({"slice": address.get_all("slice")}).slices)
    except InputError:
        return {}


def _slice_choices(selection: Selection, slices: dict[str, str]) -> None:
    """Draw the slices to insert, and a field for the name of a new one."""
    with st.popover("Slices", icon=":material/bookmark:", width="stretch"):
        st.caption("A slice is an expression with a name; write `@name`, or choose one here.")
        known = SLICES | slices
        st.selectbox(
            "Use a slice",
            list(known),
            index=None,
            format_func=lambda name: f"@{name}: {known[name]}",
            key="slice_taken",
            on_change=_take,
            placeholder="Choose",
        )
        name = st.text_input("Name of the expression above", key="slice_name", placeholder="late_digits", max_chars=40)
        usable = bool(selection.where) and name.isidentifier() and name not in known
        st.button("Keep it", disabled=not usable, key="slice_keep", on_click=_keep, args=(name, selection.where))
        if name and not name.isidentifier():
            st.caption("A name is one word of letters, digits and _.")


def _take() -> None:
    name, text = st.session_state["slice_taken"], st.session_state.get("where", "").strip()
    if name is not None:
        st.session_state["where"] = f"({text}) and @{name}" if text else f"@{name}"
        st.session_state["slice_taken"] = None


def _keep(name: str, where: str) -> None:
    st.session_state["slices"] = {**st.session_state["slices"], name: where}
    st.session_state["where"] = f"@{name}"
    st.session_state["slice_name"] = ""
