"""Balance loss: its variants, what each expert and token adds to it, and what pooling hides."""

import streamlit as st

from app.sections import balance_loss
from app.state import controls
from app.widgets import charts, choices, documents, frames, legends, texts, token_strip, values
from mixtral_probe import figures, strip

chosen = controls.chosen()
loss, parts = chosen.table("balance_loss"), chosen.table("balance_loss_breakdown")
texts.title(
    "Balance loss",
    "The load-balancing loss in each of its forms, with its balanced value, and the exact parts it is made of.",
)
values.cards(
    balance_loss.over_layers(loss, chosen.group),
    ("load_balancing_loss_pooled", "load_balancing_loss_mean", "router_z_loss"),
    scope=True,
)
values.cards(
    frames.rows(loss, layer=chosen.layer, group=chosen.group),
    ("load_balancing_loss", "load_balancing_loss_pooled_part", "router_z_loss"),
    suffix=f", layer {chosen.layer}",
    scope=True,
)
charts.show(chosen.figure("balance_loss", group=chosen.group), loss, "loss", "balance_loss")
balance_loss.other_forms(chosen)

metric = choices.one_of(
    "Part",
    balance_loss.parts_offered(parts, chosen.group),
    "part",
    default="excess",
    named=balance_loss.PARTS.__getitem__,
)
st.caption(balance_loss.MEANING[metric])
left, right = st.columns([1, 1], gap="large")
with left:
    cell = charts.navigator(
        chosen.figure("balance_loss_breakdown", metric=metric, group=chosen.group),
        frames.rows(parts, metric=metric, group=chosen.group),
        "loss_parts",
        f"balance_loss_{metric}",
    )
    if cell is not None and cell[0] is not None:
        controls.wish(layer=int(cell[0]))
        st.rerun()
with right:
    balance_loss.hidden_by_pooling(loss, parts, chosen.group)
by_domain = chosen.stats.by is not None and metric != "pooling_gap_groups"
if by_domain and choices.switch("The same for every domain", "loss_by_domain"):
    by_group = parts[((parts["metric"] == metric) & parts["layer"].notna()).to_numpy(dtype=bool)]
    charts.show(
        figures.balance_loss_breakdown(by_group, metric=metric, group=None),
        by_group,
        "loss_domains",
        f"balance_loss_{metric}_by_domain",
    )

st.header("Token by token", anchor=False)
shown = documents.choose(chosen)
table, counted = balance_loss.of_document(chosen, shown)
if table.empty:
    st.info(table.attrs.get("note", "No token of this document was counted."))
    st.stop()
tokens, (low, high) = strip.by_loss(shown.trace, table, shown.window, layer=chosen.layer, dark=charts.dark())
legends.scale(low, high, "the token's part of the loss; 1 on average at balance", charts.dark())
with st.container(border=True):
    token_strip.show(tokens, "loss_strip", f"Text of document {shown.number} coloured by balance loss")
st.caption(f"{shown.scope} · layer {chosen.layer} · {counted}")
at_layer = frames.rows(shown.window.rows_of(table, shown.trace).drop(columns="row"), layer=chosen.layer)
charts.table_and_csv(shown.with_number(at_layer), "loss_tokens", f"balance_loss_tokens_document_{shown.number}")
