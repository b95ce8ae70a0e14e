"""Experts: a card for each, with its load, its tokens, its partners and its effect on the tokens."""

import streamlit as st

from app.jobs import ablations, expert_measurements
from app.jobs.queue import Job
from app.sections.specialization import tokens_of
from app.state import address, controls
from app.widgets import charts, choices, frames, job_list, texts, values
from mixtral_probe import InputError, figures
from mixtral_probe.tables import TABLES
from mixtral_probe.tables.registry import estimates, metric_of

_PARTNERS = 8  # drawn as numbers; the table below them has all
_LOST = ("loss_increase", "loss_increase_beyond_placebo", "loss_increase_rank", "loss_increase_false_discovery")
_ALIKE = ("linear_cka", "output_cosine", "aligned_cosine")

view = controls.view()
layer, group = view.layer, view.group
texts.title("Experts", "One expert at a time: its load, its tokens, its partners, and what it does to its tokens.")
experts = list(range(view.stats.num_experts))
address.keep("expert", experts)
expert = st.selectbox("Expert", experts, key="expert", width=160)


def _load() -> None:
    load = frames.rows(view.table("expert_load"), layer=layer, group=group, expert=expert)
    values.cards(load, [metric for metric in TABLES["expert_load"].metrics if metric in set(load["metric"])])


def _partners() -> None:
    st.subheader("Chosen together with", anchor=False)
    metric = choices.table_metric("coactivation", key="pair_metric")
    partners = frames.rows(view.table("coactivation"), layer=layer, group=group, expert=expert, metric=metric)
    partners = partners.assign(estimate=estimates(partners)).sort_values("estimate", ascending=False)
    st.caption(f"{metric_of(metric).label[:1].upper()}{metric_of(metric).label[1:]}, the largest first")
    with st.container(horizontal=True, gap="small"):
        for _, row in partners.head(_PARTNERS).iterrows():
            values.card(row, metric, f"expert {row['other_expert']}")
    charts.table_and_csv(partners, "partners", f"coactivation_layer_{layer}_expert_{expert}")


def _measure() -> None:
    st.header("What it does to its tokens", anchor=False)
    texts.where_note("one bundled text of each domain")
    st.caption(
        "For traces of the embedded model: measured on one bundled text of each domain; about "
        f"{job_list.seconds(expert_measurements.estimate())}."
    )
    if st.button("Measure the experts", key="experts_measure", icon=":material/science:"):
        try:
            expert_measurements.measure()
        except InputError as error:
            st.error(str(error))
    job_list.watch(expert_measurements.KIND, "Not measured yet.", _done)


def _done(job: Job) -> None:
    st.caption(":material/check_circle: Finished; see below")


def _show_measurement(measurement: expert_measurements.Measurement) -> None:
    saliency = frames.rows(measurement.saliency, layer=layer, group="all", expert=expert)
    values.cards(saliency, ("activation_norm", "reap", "largest_output"))
    st.subheader("Tokens it promotes", anchor=False)
    promoted = frames.rows(measurement.promoted, layer=layer, expert=expert)
    charts.table_and_csv(promoted, "promoted", f"promoted_tokens_layer_{layer}_expert_{expert}", opened=True)
    st.subheader("Where it adds most", anchor=False)
    contexts = frames.rows(measurement.contexts, layer=layer, expert=expert)
    charts.table_and_csv(contexts, "contexts", f"expert_contexts_layer_{layer}_expert_{expert}", opened=True)
    metric = choices.metric("Likeness", _ALIKE, "alike")
    alike = frames.rows(measurement.similarity, layer=layer, expert=expert, metric=metric)
    figure = figures.expert_similarity(measurement.similarity, metric=metric, layer=layer)
    charts.show(figure, alike, "alike_map", f"expert_similarity_layer_{layer}_expert_{expert}")


def _ablate() -> None:
    """Draw the ablation of the experts of the chosen layer: its button, its progress, and its numbers."""
    st.header("What is lost without it", anchor=False)
    texts.where_note("one bundled text of each domain")
    needed = ablations.estimate(layer)
    if needed is None:
        st.info(f"The embedded model, whose experts can be left out here, has no layer {layer}.")
        return
    st.caption(
        f"For traces of the embedded model: every expert of layer {layer} is left out, one at a time, over "
        f"{needed.tokens:,} tokens, beside {ablations.PLACEBOS} draws of a placebo of its size; about "
        f"{job_list.seconds(needed.seconds)}."
    )
    if st.button(f"Leave out the experts of layer {layer}", key="experts_ablate", icon=":material/science:"):
        try:
            ablations.start(layer)
        except InputError as error:
            st.error(str(error))
    job_list.watch(ablations.KIND, "Not measured yet.", _done)
    found = [one for one in ablations.finished() if one.layer == layer]
    if found and not found[0].fits(view.trace):
        st.info("This trace is not of the embedded model, so the ablation is not about its experts.")
    elif found:
        _show_ablation(found[0])


def _show_ablation(ablation: ablations.Ablation) -> None:
    of_expert = frames.rows(ablation.table, group="all", expert=expert)
    values.cards(of_expert, [metric for metric in _LOST if metric in set(of_expert["metric"])])
    metric = choices.metric("Ablation", _LOST, "lost")
    figure = figures.ablation(ablation.table, metric=metric)
    charts.show(figure, ablation.table, "lost_map", f"ablation_layer_{layer}")


_load()
_partners()
tokens_of(view, expert)
_measure()
for newest in expert_measurements.measurements()[:1]:
    if newest.fits(view.trace):
        _show_measurement(newest)
    else:
        st.info("This trace is not of the embedded model, so the measurement is not about its experts.")
_ablate()
