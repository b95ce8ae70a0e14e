"""The parts of the page about specialization: topics, relevance, words, information, pairs, layers, repetition."""

from typing import Any

import pandas as pd
import streamlit as st

from app.state import address, controls
from app.widgets import charts, choices, frames, large_tables, values
from mixtral_probe import figures
from mixtral_probe.figures.specialization.context_information import frequent_types
from mixtral_probe.tables.registry import metric_of
from mixtral_probe.tables.specialization.label_shuffles import FALSE_DISCOVERY, TESTS

_INFORMATION = ("mutual_information_bits_corrected", "mutual_information_share", "mutual_information_bits")
_VARIABLES = {
    "domain": "the domain",
    "domain|token": "the domain, among tokens of one type",
    "position": "the position",
    "token": "the token",
    "next token": "the token that follows",
    "predicted token": "the token predicted",
    "previous token": "the token before",
    "previous token|token": "the token before, beyond the token itself",
}
_CONTEXT = ("mutual_information_bits_corrected", "mutual_information_bits")
_RELEVANCE = ("token_selection_ratio", "average_gate_score")
_TARGETS = {"input": "the token routed", "predicted": "the token predicted", "next": "the token that follows"}
_FEW = {1: "every type", 10: "types met 10 times or more"}
_WEIGHTS = {"type": "every type alike", "token": "each by its tokens"}


def domains(view: controls.PageView) -> None:
    """Draw which domains use which experts, and how far two domains differ."""
    special, apart = view.table("domain_specialization"), view.table("group_divergence")
    if special.empty:
        st.info(special.attrs["note"])
        return
    information = frames.rows(view.table("mutual_information"), variable="domain", layer=view.layer)
    _numbers(information, ("mutual_information_bits", *_INFORMATION[:2], FALSE_DISCOVERY))
    left, right = st.columns([1, 1], gap="large")
    with left:
        metric = choices.table_metric("domain_specialization", key="domain_metric", without=TESTS)
        part = frames.rows(special, layer=view.layer, metric=metric)
        figure = figures.domain_specialization(special, layer=view.layer, metric=metric)
        charts.show(figure, part, "domain_map", f"domain_specialization_layer_{view.layer}")
    with right:
        if apart.empty:
            st.info(apart.attrs["note"])
            return
        metric = choices.table_metric("group_divergence", key="divergence_metric", without=TESTS)
        part = frames.rows(apart, layer=view.layer, metric=metric)
        figure = figures.group_divergence(apart, layer=view.layer, metric=metric)
        charts.show(figure, part, "divergence", f"group_divergence_layer_{view.layer}")
    st.markdown(
        "Any two groups of documents differ somewhat. Chance is what the same documents show when their domains are "
        "shuffled among them, and dots are on differences that are larger than chance explains: of all dots in all "
        "layers, 5 % at most are expected to be false. Fewer than 20 ways to arrange the domains give no dots."
    )


def relevance(view: controls.PageView) -> None:
    """Draw how much of a document goes to each expert, in every layer and in every domain."""
    table = view.table("expert_relevance")
    of_group = frames.rows(table, group=view.group)
    if frames.explain_missing(of_group):
        return
    measured = [name for name in _RELEVANCE if frames.rows(of_group, metric=name)["value"].notna().any()]
    metric = choices.metric("Measure", measured, "relevance_metric")
    left, right = st.columns([1, 1], gap="large")
    with left:
        figure = view.figure("expert_relevance_map", "expert_relevance", metric=metric, group=view.group)
        charts.show(figure, frames.rows(of_group, metric=metric), "relevance_map", f"expert_relevance_{metric}")
    with right:
        figure = view.figure("expert_relevance", layer=view.layer, group=view.group)
        part = frames.rows(of_group, layer=view.layer)
        charts.show(figure, part, "relevance", f"expert_relevance_layer_{view.layer}")
    st.markdown(
        "What fine-tuning of single experts (ESFT) chooses them by: the mean weight an expert has in a document, the "
        "average gate score, and its share of a document's choices, the token selection ratio. Every document counts "
        "alike, however long; the load counts every token alike."
    )
    if table["group"].nunique() > 1 and choices.switch("The same for every domain", "relevance_by_domain"):
        figure = view.figure("expert_relevance_map", "expert_relevance", metric=metric, group=None)
        charts.show(
            figure, frames.rows(table, metric=metric), "relevance_domains", f"expert_relevance_{metric}_by_domain"
        )


def vocabulary(view: controls.PageView) -> None:
    """Draw how far each token type goes to one expert, against chance, and the tokens of one expert."""
    with st.container(horizontal=True, gap="medium"):
        target = _choice("Token", _TARGETS, "target")
        min_count = _choice("Types", _FEW, "min_count")
        weighting = _choice("Mean", _WEIGHTS, "weighting")
    table = view.table("vocabulary_specialization")
    keys = {"target": target, "min_count": min_count, "weighting": weighting}
    part = frames.rows(table, **keys)
    part = part[part["expert"].isna().to_numpy(dtype=bool)]
    if frames.explain_missing(frames.rows(part, group=view.group)):
        return
    at_layer = frames.rows(part, layer=view.layer, group=view.group)
    _numbers(at_layer, ("vocabulary_specialization", "vocabulary_specialization_crossval"))
    figure = figures.vocabulary_specialization(table, group=view.group, **keys)
    charts.show(figure, part, "vocabulary", f"vocabulary_specialization_{target}")
    st.markdown(
        "A type met once scores 100 % in the plug-in value whatever the router does, so rare types lift it; the dotted "
        "line is what routing by load alone scores on the same counts. The cross-validated value takes each type's "
        "expert from half of the documents and tests it in the other half, over 15 splits. Its interval is about what "
        "as many other documents give; with more documents the experts are known better."
    )
    st.subheader("Tokens of one expert", anchor=False)
    _tokens(view)


def _tokens(view: controls.PageView) -> None:
    experts = list(range(view.stats.num_experts))
    address.keep("expert", experts)
    tokens_of(view, st.selectbox("Expert", experts, key="expert", width=160))


def tokens_of(view: controls.PageView, expert: int) -> None:
    """Draw the tokens most typical of an expert of the chosen layer, or why there are none."""
    table = view.table("expert_tokens")
    part = frames.rows(table, layer=view.layer, group=view.group, expert=expert)
    if frames.explain_missing(part):
        return
    figure = figures.expert_tokens(table, layer=view.layer, expert=expert, group=view.group)
    charts.show(figure, part, "expert_tokens", f"expert_tokens_layer_{view.layer}_expert_{expert}")
    st.markdown(
        "Documents have experts of their own, so a word of few documents seems to prefer theirs. Bars in full colour "
        "are of words that prefer the expert consistently, from document to document; a word is tried when it occurs "
        "in five folds of documents."
    )


def information(view: controls.PageView) -> None:
    """Draw what topic, position and word tell about the expert."""
    table = view.table("mutual_information")
    metric = _choice("Measure", {name: metric_of(name).label for name in _INFORMATION}, "information")
    rows = frames.rows(table, group=view.group, metric=metric)
    at_layer = frames.rows(rows, layer=view.layer)
    with st.container(horizontal=True, gap="small"):
        for _, row in at_layer[at_layer["value"].notna()].iterrows():
            values.card(row, metric, _VARIABLES[row["variable"]])
    if not frames.explain_missing(rows):
        figure = figures.mutual_information(table, metric=metric, group=view.group)
        charts.show(figure, frames.rows(table, metric=metric), "information_by_layer", "mutual_information")
    st.markdown(
        "How many bits fewer it takes to say which expert a token went to once the domain, the position or the token "
        "itself is known. What the domain tells among tokens of one type is topic; the rest of what it tells is "
        "vocabulary. Topics can be separated over all documents only."
    )


def context(view: controls.PageView) -> None:
    """Draw what a token's neighbours tell about the expert, and the token before beyond the token itself."""
    if not large_tables.confirm(view, "context_information"):
        return
    table = view.table("context_information")
    group = frames.group_of(table, view)
    least = sorted(int(count) for count in table["min_count"].unique())
    with st.container(horizontal=True, gap="medium"):
        metric = _choice("Measure", {name: metric_of(name).label for name in _CONTEXT}, "context_metric")
        kinds = {count: "every type" if count == 1 else f"types met {count} times or more" for count in least}
        min_count = _choice("Types", kinds, "context_types", frequent_types(table, group))
    rows = frames.rows(table, group=group, metric=metric, min_count=min_count)
    if frames.explain_missing(rows):
        return
    with st.container(horizontal=True, gap="small"):
        at_layer = frames.rows(rows[rows["value"].notna()], layer=view.layer).set_index("variable")
        for variable in [name for name in _VARIABLES if name in at_layer.index]:
            values.card(at_layer.loc[variable], metric, _VARIABLES[variable])
    figure = view.figure("context_information", metric=metric, min_count=min_count, group=group)
    charts.show(figure, rows, "context", "context_information")
    st.markdown(
        "A router reads what attention brought it, so the expert may depend on more than the token itself. What the "
        "token before tells beyond the token itself is what context adds. Even where it tells nothing, counting finds "
        "some information by chance, and more where a document has words and experts of its own; experts exchanged "
        "among the tokens of each document show how much. Types met often enough have intervals; those of rare types "
        "would be wrong, and much of what every type tells is chance."
    )


def together(view: controls.PageView) -> None:
    """Draw which experts are chosen together for a token."""
    table = view.table("coactivation")
    metric = choices.table_metric("coactivation", key="pair_metric")
    part = frames.rows(table, layer=view.layer, group=view.group, metric=metric)
    if frames.explain_missing(part):
        return
    left, right = st.columns([1, 1], gap="large")
    with left:
        figure = figures.coactivation(table, layer=view.layer, group=view.group, metric=metric)
        charts.show(figure, part, "coactivation", f"coactivation_layer_{view.layer}")
    with right:
        st.markdown(
            "The null is a router with the same loads that chooses a token's experts independently. A token's experts "
            "exclude each other, so the lift lies below 1 by construction; compare it with the null."
        )


_CHOICES = {"first": "first choices", "all": "every choice with every choice"}


def layers(view: controls.PageView) -> None:
    """Draw how a token's choices in one layer depend on those in the layer before."""
    known = view.stats.layers
    if len(known) < 2:
        st.info("This model has one layer with experts, so it has no transitions between layers.")
        return
    table = view.table("transitions")
    start = view.layer if view.layer != known[-1] else known[-2]
    whole = frames.rows(table, layer=start, group=view.group)
    whole = whole[whole["expert"].isna().to_numpy(dtype=bool)]
    if frames.explain_missing(whole):
        return
    following = known[known.index(start) + 1]
    several = view.stats.num_experts_per_tok > 1
    every = "_all_choices" if several and _choice("Choices", _CHOICES, "choices") == "all" else ""
    names = ("mutual_information_bits_corrected", "mutual_information_bits", "cramers_v")
    metrics = tuple(f"{name}{every}" for name in names)
    _numbers(frames.rows(whole, other_layer=following), metrics, f", layer {start} to {following}")
    address.keep("steps", range(1, 7), default=3)
    steps = st.slider("Layers further", 1, 6, key="steps", width=260)
    metric = f"joint_share{every}"
    figure = figures.transitions(table, layer=start, steps=steps, group=view.group, metric=metric)
    part = frames.rows(table, group=view.group, metric=metric)
    charts.show(figure, part, "transitions", "transitions")


def repetition(view: controls.PageView) -> None:
    """Draw whether tokens near each other go to the same experts."""
    table = view.table("repetition")
    at_layer = frames.rows(table, layer=view.layer, group=view.group)
    if frames.explain_missing(at_layer):
        return
    _numbers(frames.rows(at_layer, lag=1), ("repetition_first", "repetition_any", "overlap"), ", next token")
    charts.show(figures.repetition_lags(table, layer=view.layer, group=view.group), at_layer, "lags", "repetition_lags")
    part = frames.rows(table, lag=1)
    charts.show(figures.repetition(table, group=view.group), part, "repetition", "repetition")


def _numbers(table: pd.DataFrame, metrics: tuple[str, ...], suffix: str = "") -> None:
    values.cards(table, metrics, suffix)


def _choice(label: str, names: dict[Any, str], key: str, default: Any = None) -> Any:
    return choices.one_of(label, list(names), key, default=default, named=names.__getitem__, labelled=True)
