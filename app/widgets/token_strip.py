"""The component that draws text coloured token by token."""

from collections.abc import Callable, Sequence

import streamlit as st

from mixtral_probe.strip import Token, payload, script, style

_PICK = """
// An unchanged state is not sent, so that the same token picked again needs an event.
export default (component) => drawStrip({ ...component, setStateValue: (name, row) => {
  component.setStateValue(name, row);
  component.setTriggerValue("picked", row);
} });
"""
_component = st.components.v2.component(
    "mixtral_probe_token_strip",
    html='<div class="strip" role="group"></div><div class="tip" popover="manual"></div>',
    css=style(),
    js=script() + _PICK,
)


def show(
    tokens: Sequence[Token],
    key: str,
    label: str,
    *,
    mark: int | None = None,
    on_pick: Callable[[int], None] | None = None,
) -> int | None:
    """Draw the tokens and return the row of the last click, or None.

    Args:
        tokens: of one window.
        key: of the component.
        label: of the whole text, for a screen reader.
        mark: the row that is drawn as selected, by default that of the last click.
        on_pick: called with the row of a token just clicked, before the page is drawn anew.
    """
    rows = {token.row for token in tokens}
    state = st.session_state.get(key)
    selected = state.get("selected") if state else None
    selected = selected if selected in rows else None
    drawn = payload(tokens, selected if mark is None else mark, label)

    def pick() -> None:
        row = st.session_state[key].get("picked")
        if on_pick is not None and row in rows:
            on_pick(row)

    result = _component(key=key, data=drawn, on_selected_change=lambda: None, on_picked_change=pick)
    picked = result.get("selected")
    return picked if picked in rows else None
