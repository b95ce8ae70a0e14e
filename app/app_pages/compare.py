"""Compare: two traces of the same texts; groups, layers and slices of one; how routing settled over training."""

import streamlit as st

from app.sections import comparisons, differences
from app.state import controls
from app.widgets import charts, frames, texts, values
from mixtral_probe import InputError, figures

view = controls.view()
texts.title(
    "Compare",
    "Two traces of the same texts, token by token: the trace chosen on the left (B) less the one pinned here (A).",
)
texts.where_note("all tokens of both traces")
first = comparisons.choose(view.source)
if first is None:
    st.info("There is no other trace to compare with; open two: `mixtral-probe dashboard A.trace B.trace`.")
else:
    try:
        table = comparisons.agreement_of(first, view.source)
    except InputError as error:
        st.info(str(error))
    else:
        group = view.group if view.group in set(table["group"]) else controls.ALL
        whole = table[table["layer"].isna().to_numpy(dtype=bool)]
        values.cards(frames.rows(whole, group=group), ("any_layer_differs", "set_overlap", "first_agreement"))
        of_group = frames.rows(table, group=group)
        charts.show(figures.agreement(table, group=group), of_group, "agreement", "agreement")
        charts.show(
            figures.agreement_experts(table, group=group),
            frames.rows(of_group, metric="share_change"),
            "gained",
            "share_change",
        )

differences.section(view)

st.header("Saturation over training", anchor=False)
texts.where_note("the traces of the embedded model's training")
saturation = comparisons.saturation()
if saturation is None:
    st.info("The traces of the embedded model's training are not part of this installation.")
else:
    charts.show(figures.saturation(saturation), saturation, "saturation", "saturation")
