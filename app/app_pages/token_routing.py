"""Token routing: a document's text coloured by the experts its tokens were sent to, and the route of one token."""

import pandas as pd
import streamlit as st

from app.sections import expert_search, token_routes
from app.state import controls, sources
from app.widgets import charts, choices, documents, frames, legends, texts, token_strip
from mixtral_probe import strip
from mixtral_probe.trace import UNITS

view = controls.view()
texts.title(
    "Token routing",
    "Which expert every token of a text was sent to, in one layer; the stronger the colour, the larger its weight.",
)
excerpt = documents.choose(view)
routes = sources.document_table(view.source, "routes", excerpt.number)
counted = sources.document_table(view.source, "routes", excerpt.number, view.where)
ranks = sources.document_table(view.source, "load_by_rank", excerpt.number, view.where)

names = ["first choice", "second choice", *(f"choice {rank + 1}" for rank in range(2, 64))]
rank = choices.one_of("Colour by", range(view.stats.num_experts_per_tok), "rank", named=names.__getitem__)
with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
    unit = choices.one_of("Granularity", UNITS, "unit")
    second = documents.second_layer(view)
whole, units = routes, None
if unit != UNITS[0]:
    whole, units = (sources.unit_table(view.source, excerpt.number, unit, where) for where in (None, view.where))
picked, pinned = documents.current_row(excerpt), token_routes.pinned_token(view)


def _coloured(layer: int, key: str) -> None:
    """Draw the legend and the text of one layer."""
    in_document = frames.rows(ranks, layer=layer, rank=rank, group="all")
    in_group = frames.rows(view.table("load_by_rank"), layer=layer, rank=rank, group=view.group)
    legends.experts(in_document, in_group, view.group)
    if units is None:
        row = view.stats.layers.index(layer)
        tokens = strip.by_expert(excerpt.trace, whole, excerpt.window, layer=layer, row=row, rank=rank)
        if view.where is not None:
            kept = excerpt.window.rows_of(frames.rows(counted, layer=layer), excerpt.trace)["row"]
            tokens = strip.dimmed(tokens, set(kept.tolist()))
        coloured = names[rank]
    else:
        tokens = strip.by_unit(excerpt.trace, whole, excerpt.window, layer=layer, selected=units)
        coloured = f"the expert with the largest share of each {unit}'s gate weights"
    if pinned is not None and pinned[0] == excerpt.number:
        tokens = strip.pinned(tokens, pinned[1])
    with st.container(border=True):
        label = f"Text of document {excerpt.number} coloured by expert at layer {layer}"
        token_strip.show(tokens, key, label, mark=picked, on_pick=documents.pick)
    dimmed = "" if view.where is None else "Tokens that **Where** leaves out are dimmed. "
    st.caption(f"{excerpt.scope} · layer {layer} · {coloured} · n = {len(tokens):,} {unit}s. {dimmed}")


if second is None:
    _coloured(view.layer, "strip")
else:
    columns = st.columns(2, gap="large")
    for column, layer, key in zip(columns, (view.layer, second), ("strip", "strip_beside"), strict=True):
        with column:
            st.subheader(f"Layer {layer}", anchor=False)
            _coloured(layer, key)
    st.caption("Experts of different layers are different networks: the same colour in both is the same number only.")
st.caption("Hover, or use the arrow keys, for a token's logits, weights and margin; click it for its route.")

special = excerpt.trace.tokens["special"].to_numpy(dtype=bool)
rows = range(excerpt.window.start, excerpt.window.stop)
row = picked if picked is not None else next((row for row in rows if not special[row]), None)
if row is not None:
    token_routes.section(view, excerpt, row)

expert_search.section(view, excerpt, row)

what = "tokens" if units is None else f"{unit}s"
st.subheader(f"Routes of these {what}", anchor=False)
if view.where is not None:
    st.caption("Only what **Where** selects.")
every = choices.switch("All layers", "routes_all_layers")
table: pd.DataFrame = excerpt.window.rows_of(counted if units is None else units, excerpt.trace).drop(columns="row")
if not every:
    table = frames.rows(table, layer=view.layer)
name = "routes" if units is None else f"routes_by_{unit}"
charts.table_and_csv(excerpt.with_number(table), "routes", f"{name}_document_{excerpt.number}", opened=True)
