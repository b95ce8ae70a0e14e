"""Token routing: a document's text coloured by the experts its tokens were sent to, and the way of one token."""

import charts
import controls
import documents
import found_tokens
import pandas as pd
import sources
import streamlit as st
import swatches
import token_strip
import words

from mixtral_probe import figures, strip, tables
from mixtral_probe.trace import UNITS

chosen = controls.chosen()
words.title(
    "Token routing",
    "Which expert every token of a text was sent to, in one layer; the stronger the colour, the larger its weight.",
)
shown = documents.choose(chosen)
routes = sources.document_table(chosen.source, "routes", shown.number)
counted = sources.document_table(chosen.source, "routes", shown.number, chosen.where)
ranks = sources.document_table(chosen.source, "load_by_rank", shown.number, chosen.where)

names = ["first choice", "second choice", *(f"choice {rank + 1}" for rank in range(2, 64))]
rank = words.one_of("Colour by", range(chosen.stats.num_experts_per_tok), "rank", named=names.__getitem__)
in_document = words.rows(ranks, layer=chosen.layer, rank=rank, group="all")
in_group = words.rows(chosen.table("load_by_rank"), layer=chosen.layer, rank=rank, group=chosen.group)
swatches.experts(in_document, in_group, chosen.group)

unit = words.one_of("Granularity", UNITS, "unit")
units = None
picked = documents.picked(shown)
if unit == UNITS[0]:
    tokens = strip.by_expert(shown.trace, routes, shown.window, layer=chosen.layer, row=chosen.row, rank=rank)
    if chosen.where is not None:
        kept = shown.window.rows_of(words.rows(counted, layer=chosen.layer), shown.trace)["row"]
        tokens = strip.dimmed(tokens, set(kept.tolist()))
    coloured = names[rank]
else:
    whole, units = (sources.unit_table(chosen.source, shown.number, unit, where) for where in (None, chosen.where))
    tokens = strip.by_unit(shown.trace, whole, shown.window, layer=chosen.layer, selected=units)
    coloured = f"the expert with the largest share of each {unit}'s gate weights"
with st.container(border=True):
    label = f"Text of document {shown.number} coloured by expert at layer {chosen.layer}"
    token_strip.show(tokens, "strip", label, mark=picked, on_pick=documents.pick)
dimmed = "" if chosen.where is None else "What **Where** leaves out is dimmed. "
st.caption(
    f"{shown.scope} · layer {chosen.layer} · {coloured} · n = {len(tokens):,} {unit}s. {dimmed}"
    "Hover, or go through the tokens with the arrow keys, for logits, weights and margin; click one for its route."
)

row = picked if picked is not None else next((token.row for token in tokens if not token.special), None)
if row is not None:
    # Column by column: a row of all of them would need one dtype, which texts with lone surrogates have not.
    chunk, position = (int(shown.trace.tokens[name].iloc[row]) for name in ("chunk", "position"))
    own = routes[((routes["chunk"] == chunk) & (routes["position"] == position)).to_numpy(dtype=bool)]
    if len(own):
        route = figures.token_route(
            shown.with_number(own),
            document=shown.number,
            chunk=chunk,
            position=position,
            num_experts=chosen.stats.num_experts,
            logits=tables.token_logits(shown.trace, chunk=chunk, position=position),
        )
        charts.show(route, shown.with_number(own), "route", f"route_document_{shown.number}_token_{row}")

found_tokens.section(chosen, shown, row)

what = "tokens" if units is None else f"{unit}s"
st.subheader(f"Routes of these {what}", anchor=False)
if chosen.where is not None:
    st.caption("Only what **Where** selects.")
every = st.toggle("All layers", key="routes_all_layers")
table: pd.DataFrame = shown.window.rows_of(counted if units is None else units, shown.trace).drop(columns="row")
if not every:
    table = words.rows(table, layer=chosen.layer)
name = "routes" if units is None else f"routes_by_{unit}"
charts.table_and_csv(shown.with_number(table), "routes", f"{name}_document_{shown.number}", opened=True)
