"""Balance loss: its variants, what each expert and token adds to it, and what pooling hides."""

import streamlit as st

from app.sections import balance_loss
from app.state import controls
from app.widgets import charts, choices, documents, frames, legends, texts, token_strip, values
from mixtral_probe import figures, strip

view = controls.view()
loss, parts = view.table("balance_loss"), view.table("balance_loss_breakdown")
texts.title(
    "Balance loss",
    "The load-balancing loss in each of its forms, with its balanced value and what chance gives, and the exact parts "
    "it is made of.",
)
values.cards(
    balance_loss.over_layers(loss, view.group),
    ("load_balancing_loss_pooled", "load_balancing_loss_mean", "router_z_loss"),
    scope=True,
)
values.cards(
    frames.rows(loss, layer=view.layer, group=view.group),
    ("load_balancing_loss", "load_balancing_loss_pooled_part", "router_z_loss"),
    suffix=f", layer {view.layer}",
    scope=True,
)
charts.show(view.figure("balance_loss", group=view.group), loss, "loss", "balance_loss")
balance_loss.other_forms(view)

metric = choices.one_of(
    "Part",
    balance_loss.available_parts(parts, view.group),
    "part",
    default="excess",
    named=balance_loss.PARTS.__getitem__,
)
st.caption(balance_loss.MEANING[metric])
left, right = st.columns([1, 1], gap="large")
with left:
    cell = charts.navigator(
        view.figure("balance_loss_breakdown", metric=metric, group=view.group),
        frames.rows(parts, metric=metric, group=view.group),
        "loss_parts",
        f"balance_loss_{metric}",
    )
    if cell is not None and cell[0] is not None:
        controls.set_on_next_run(layer=int(cell[0]))
        st.rerun()
with right:
    balance_loss.pooling_gap(loss, parts, view.group)
by_domain = view.stats.by is not None and metric != "pooling_gap_groups"
if by_domain and choices.switch("The same for every domain", "loss_by_domain"):
    by_group = parts[((parts["metric"] == metric) & parts["layer"].notna()).to_numpy(dtype=bool)]
    charts.show(
        figures.balance_loss_breakdown(by_group, metric=metric, group=None),
        by_group,
        "loss_domains",
        f"balance_loss_{metric}_by_domain",
    )

st.header("Token by token", anchor=False)
excerpt = documents.choose(view)
table, counted = balance_loss.document_parts(view, excerpt)
if table.empty:
    st.info(table.attrs.get("note", "No token of this document was counted."))
    st.stop()
tokens, (low, high) = strip.by_loss(excerpt.trace, table, excerpt.window, layer=view.layer, dark=charts.dark())
legends.scale(low, high, "the token's part of the loss; 1 on average at balance", charts.dark())
with st.container(border=True):
    token_strip.show(tokens, "loss_strip", f"Text of document {excerpt.number} coloured by balance loss")
st.caption(f"{excerpt.scope} · layer {view.layer} · {counted}")
at_layer = frames.rows(excerpt.window.rows_of(table, excerpt.trace).drop(columns="row"), layer=view.layer)
charts.table_and_csv(excerpt.with_number(at_layer), "loss_tokens", f"balance_loss_tokens_document_{excerpt.number}")
