"""What-if: what changes when the router is edited, next to draws of a placebo of the same size."""

from typing import Any

import streamlit as st

from app.jobs import models, what_ifs
from app.sections import edit_fields
from app.state import address, controls
from app.widgets import charts, frames, job_list, texts, values
from mixtral_probe import InputError, figures, tables
from mixtral_probe.trace import WhatIf

texts.title(
    "What-if",
    "A text run by the embedded model without and with a change, and with a placebo: the same done to as many "
    f"assignments drawn at random, {what_ifs.PLACEBOS} times over. What lies within the range of the draws is no "
    "effect of this expert; one more draw would lie there in 95 % of cases.",
)
texts.where_note("the text that is run here")
_PINNED = "pinned_edit"  # in the address: the edits as they are typed
METRICS = ("loss_change", "divergence_bits", "prediction_changed", "rerouted")


def _form() -> tuple[str, list[str]]:
    """Draw the fields; return the text and the edits as they are typed."""
    left, right = st.columns([3, 2], gap="large")
    address.keep_text("text", what_ifs.TEXT)
    with left:
        text = st.text_area("Text", height=180, max_chars=what_ifs.CHARACTERS, key="text")
    with right:
        config = models.embedded().model.config
        typed = edit_fields.draw(config.num_hidden_layers, config.num_local_experts, config.num_attention_heads)
    with st.expander("More changes, files"):
        address.keep_text("more")
        more = st.text_area(
            "More changes, one a line",
            key="more",
            placeholder="mask_expert expert=3 layer=2..4 position=0..9",
            help="Name and fields as on the command line; they come after the change above, in this order.",
        )
        typed += [line.strip() for line in more.splitlines() if line.strip()]
        _files(typed)
    return text, typed


def _files(typed: list[str]) -> None:
    st.download_button(
        "Save all changes",
        data=lambda: what_ifs.file(typed),
        file_name="edits.json",
        mime="application/json",
        key="edits_file",
        on_click="ignore",
        icon=":material/download:",
        disabled=not _valid(typed),
    )
    loaded = st.file_uploader("Load saved changes in their place", type="json", key="edits_loaded")
    if loaded is not None and st.button("Take them over", key="edits_take"):
        try:
            lines = what_ifs.lines(loaded.getvalue().decode(errors="replace"))
        except InputError as error:
            st.error(str(error))
        else:
            controls.set_on_next_run(more=lines, edit=edit_fields.NOTHING)
            st.rerun()


def _valid(typed: list[str]) -> bool:
    try:
        what_ifs.file(typed)
    except InputError:
        return False
    return bool(typed)


def _pin(typed: list[str]) -> list[str]:
    """Draw the buttons; return the pinned edits."""
    pinned = address.get_all(_PINNED)
    with st.container(horizontal=True):
        if st.button("Pin, to compare with another change", key="pin", icon=":material/keep:"):
            pinned = typed
            address.put(_PINNED, pinned)
        if pinned and st.button("Unpin", key="unpin", icon=":material/keep_off:"):
            pinned = []
            address.query().pop(_PINNED, None)
    return pinned


def _run(text: str, typed: list[str], generate: int | None = None) -> WhatIf:
    """Run one change; its numbers appear at once, and a bar while its placebo is drawn."""
    change = (text, tuple(typed))
    if what_ifs.finished(*change, generate):
        return what_ifs.run(*change, generate)
    expected = job_list.seconds(what_ifs.estimate(*change, generate))
    with st.spinner(f"Running the text without and with the change; with the placebo about {expected} …"):
        first = what_ifs.run(*change, placebos=0)
    meanwhile = st.empty()
    with meanwhile.container():
        values.cards(frames.rows(first.overall(), run="edited"), METRICS)
        bar = st.progress(0.0)

    def show(progress: Any) -> None:
        bar.progress(
            progress.tokens / progress.total_tokens, f"{what_ifs.PLACEBOS} draws of the placebo, about {expected} …"
        )

    result = what_ifs.run(*change, generate, on_progress=show)
    meanwhile.empty()
    return result


def _show(text: str, typed: list[str], key: str) -> None:
    """Draw one change: its sentences, its effects, and its charts."""
    try:
        result = _run(text, typed)
    except InputError as error:
        st.error(str(error))
        return
    for sentence in result.meta["sentences"]:
        st.text(sentence[:1].upper() + sentence[1:])
    table = result.table()
    values.cards(frames.rows(result.overall(), run="edited"), METRICS)
    by_token = tables.what_if_tokens(result)
    charts.show(figures.what_if_tokens(by_token), by_token, f"{key}_tokens", "what_if_tokens")
    following = tables.what_if_next_tokens(result)
    charts.show(figures.what_if_next_tokens(following), following, f"{key}_next", "what_if_next_tokens")
    charts.show(figures.what_if(table), table, f"{key}_layers", "what_if")
    layers = sorted({int(layer) for layer in table["layer"].dropna()})
    touched = result.meta["edits"][0].get("layer", "all")
    first: int = layers[0] if touched == "all" else touched[0]
    layer = int(st.select_slider("Use of the experts of layer", layers, value=first, key=f"{key}_layer"))
    charts.show(
        figures.what_if_experts(table, layer=layer),
        frames.rows(table, layer=layer),
        f"{key}_experts",
        "what_if_experts",
    )
    _continuation(text, typed, key)


def _continuation(text: str, typed: list[str], key: str) -> None:
    if not st.button(f"Continue the text by {what_ifs.CONTINUED} tokens", key=f"{key}_continue"):
        return
    result = _run(text, typed, what_ifs.CONTINUED)
    (before, after), drawn = result.generated[0], result.generated_placebo[0]
    said = {"Without": before, "With the change": after}
    said |= {"With the placebo, first draw": drawn[0]} if drawn else {}
    for (name, continuation), column in zip(said.items(), st.columns(len(said)), strict=True):
        column.caption(name)
        column.code(continuation, language=None, wrap_lines=True)
    values.cards(frames.rows(result.overall(), run="edited"), ("continuation_kept",))


text, typed = _form()
if not typed or not text.strip():
    st.info("Write a text and choose a change to see its effect.")
    st.stop()
pinned = _pin(typed)
if not pinned:
    _show(text, typed, "edited")
else:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Pinned", anchor=False)
        _show(text, pinned, "pinned")
    with right:
        st.subheader("Now", anchor=False)
        _show(text, typed, "edited")
