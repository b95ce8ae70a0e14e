"""The parts of the page about attention."""

from typing import Any

import pandas as pd
import streamlit as st

from app.sections import attention_maps
from app.sections.attention_maps import Maps
from app.state import address, controls, settings
from app.widgets import charts, choices, documents, frames, texts, token_strip, values
from mixtral_probe import InputError, figures, strip, tables
from mixtral_probe.tables.registry import estimates, metric_of

MEAN = "mean"
_MEASURES = ("sink_share", "entropy_bits", "distance")
_FINDINGS = (
    ("sink_share", True, "The strongest sink"),
    ("entropy_bits", False, "The most focused"),
    ("distance", True, "Looks back farthest"),
)
"""Metric, whether its largest value is meant, and the name of that head."""


def overview(view: controls.PageView, summary: pd.DataFrame) -> None:
    """Draw a map of all recorded heads, the most striking ones by name, and the chosen head's numbers."""
    texts.where_note("all tokens of the trace, over which attention was summed while the model ran")
    measure = choices.metric("Measure", _MEASURES, "attention_measure")
    left, right = st.columns([1, 1], gap="large")
    with left:
        cell = charts.navigator(
            figures.attention_summary(summary, metric=measure),
            frames.rows(summary, metric=measure),
            "heads_map",
            "attention_summary",
        )
        st.caption("Click a cell to choose its layer and head.")
        if cell is not None:
            _go(int(cell[0]), int(cell[1]))
    with right:
        for metric, largest, name in _FINDINGS:
            _finding(frames.rows(summary, metric=metric), metric, largest, name)
    head = str(st.session_state.get("head", address.get("head")))
    of_head = frames.rows(summary, layer=view.layer, head=int(head)) if head.isdecimal() else summary.head(0)
    if len(of_head):
        st.caption(f"Layer {view.layer}, head {head}")
        values.cards(of_head, _MEASURES)


def _finding(rows: pd.DataFrame, metric: str, largest: bool, name: str) -> None:
    known = rows.dropna(subset="value")
    if known.empty:
        return
    row = known.assign(estimate=estimates(known)).sort_values("estimate", ascending=not largest).iloc[0]
    layer, head = int(row["layer"]), int(row["head"])
    words = metric_of(metric)
    text = f"{words.label} {words.text(row['estimate'])} (even: {words.text(row['null'])})"
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown(f"**{name}**: layer {layer}, head {head}  \n:small[{text}]", width="stretch")
        if st.button(f"Show head {head} of layer {layer}", key=f"attention_find_{metric}"):
            _go(layer, head)


def _go(layer: int, head: int) -> None:
    controls.set_on_next_run(layer=layer, head=head)
    st.rerun()


def head_choice(maps: Maps) -> int | None:
    """Draw the choice of a recorded head and return it, or None for the mean."""
    texts.where_note("every token of one window of text")
    options: list[Any] = [MEAN, *maps.heads]
    address.keep("head", options)
    head = st.selectbox("Head (mean: of all of the layer)", options, key="head", width=240)
    return None if head == MEAN else int(head)


def query_and_key(maps: Maps, excerpt: documents.Excerpt) -> tuple[int, int | None]:
    """Return the positions of the query and, after a click in the map, of the key; the last click counts."""
    window = (*maps.key, maps.chunk)
    state = st.session_state
    clicked, strip_state = charts.new_click("attention_map"), state.get("attention_strip")
    row = strip_state.get("selected") if strip_state else None
    before, state["attention_strip_row"] = state.get("attention_strip_row"), row
    query, key = state.get("attention_marked", {}).get(window, (None, None))
    if row is not None and row != before:
        query, key = row - maps.place, None
    if clicked is not None:
        query, key = int(clicked[0]), int(clicked[1])
    last = min(excerpt.window.stop - maps.place, maps.size) - 1
    if query is None or not 0 <= query < maps.size:
        query, key = last, None
    state["attention_marked"] = {window: (query, key)}
    return query, key


def one_map(maps: Maps, head: int | None, query: int, key: int | None, name: str) -> None:
    """Draw the map of one head, and the part that was dragged over, at full resolution."""
    step = -(-maps.size // settings.MAP_SIDE)
    table = maps.links(head, step=step)
    charts.brush(figures.attention_weights(table, step=step, query=query, position=key), table, "attention_map", name)
    st.caption("Click a place to choose its query and key. Drag over a part to see it at full resolution below.")
    part = charts.area("attention_map")
    if part is not None:
        _part(maps, head, part, query, key, name)


def _part(
    maps: Maps, head: int | None, part: tuple[tuple[float, float], tuple[float, float]], query: int, key: int | None,
    name: str,
) -> None:  # fmt: skip
    keys, queries = ((max(0, round(low)), min(maps.size, max(round(high), round(low)) + 1)) for low, high in part)
    if keys[0] >= maps.size or queries[0] >= maps.size or queries[1] <= keys[0]:
        st.info("No token attends to later ones: drag over a part on or below the diagonal.")
        return
    side = max(queries[1] - queries[0], keys[1] - keys[0])
    step = -(-side // settings.MAP_SIDE)
    table = maps.links(head, queries=queries, keys=keys, step=step)
    figure = figures.attention_weights(
        table,
        step=step,
        query=query if queries[0] <= query < queries[1] else None,
        position=key if key is not None and keys[0] <= key < keys[1] else None,
    )
    charts.show(figure, table, "attention_part", f"{name}_part")
    if side > 256 and choices.switch("As a picture with a dot for every weight", "attention_picture"):
        weights = maps.trace.attention(0, maps.row, head, maps.chunk)
        weights = weights.mean(0) if head is None else weights
        picture = figures.attention_picture(weights[slice(*queries), slice(*keys)], dark=charts.dark())
        st.image(
            picture, f"queries {queries[0]} – {queries[1] - 1}, keys {keys[0]} – {keys[1] - 1}", output_format="PNG"
        )


ATTENDS, ATTENDED, ROLLOUT = "sees", "seen", "rollout"
_LINKS = {ATTENDS: "looks at", ATTENDED: "is looked at by", ROLLOUT: "is reached by (rollout)"}


def text(maps: Maps, excerpt: documents.Excerpt, head: int | None, query: int) -> None:
    """Draw the text coloured by the attention of one token, and its weights as bars."""
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        direction = choices.one_of(
            "What this token", list(_LINKS), "attention_way", named=_LINKS.__getitem__, labelled=True
        )
    with right:
        by_expert = choices.switch("In the colours of the experts of what is looked at", "attention_by_expert")
    try:
        links = _links(maps, head, query, direction)
    except InputError as error:
        st.info(str(error))
        return
    tokens = strip.by_attention(
        excerpt.trace, links, excerpt.window, chunk=_chunk(excerpt), marked=query, by_expert=by_expert
    )
    with st.container(border=True):
        token_strip.show(
            tokens,
            "attention_strip",
            f"Text of document {excerpt.number} coloured by attention",
            mark=maps.place + query,
        )
    layers = "all layers to " + str(maps.layer) if direction == ROLLOUT else f"layer {maps.layer}"
    st.caption(
        f"{excerpt.scope} · {layers} · coloured where it is more than even attention; opacity: root of the weight. "
        "Click a token to choose it."
    )
    name = f"attention_document_{excerpt.number}_query_{query}"
    if direction == ATTENDED:
        charts.table_and_csv(excerpt.with_number(links), "attention_row", name)
        return
    bars, experts = st.columns([3, 2], gap="large")
    with bars:
        charts.show(figures.attention_query(links, query=query), excerpt.with_number(links), "attention_row", name)
    with experts:
        table = maps.experts(head, query)
        charts.show(
            figures.attended_experts(table), excerpt.with_number(table), "attended", f"attended_experts_{query}"
        )


def _links(maps: Maps, head: int | None, query: int, direction: str) -> pd.DataFrame:
    if direction == ROLLOUT:
        return maps.rollout(query)
    if direction == ATTENDED:
        return maps.links(head, queries=(query, maps.size), keys=(query, query + 1))
    return maps.links(head, queries=(query, query + 1))


def _chunk(excerpt: documents.Excerpt) -> int:
    return int(excerpt.trace.tokens["chunk"].iloc[excerpt.window.start])


def all_heads(maps: Maps, name: str) -> None:
    """Draw the maps of all heads of the layer."""
    if not choices.switch("All heads of this layer side by side", "attention_heads", on=maps.size <= settings.MAP_SIDE):
        return
    step = -(-maps.size // 96)
    table = pd.concat([maps.links(head, step=step) for head in maps.heads], ignore_index=True)
    charts.show(figures.attention_heads(table, step=step), table, "attention_multiples", name)


def with_routing(view: controls.PageView, maps: Maps) -> None:
    """Draw how attention differs between experts, in the open trace, or else in this document alone."""
    st.header("Attention and routing", anchor=False)
    texts.where_note("all tokens whose attention was recorded")
    whole = view.table("attention_routing") if not maps.again else pd.DataFrame()
    table = whole if len(whole) else tables.attention_routing(maps.trace)
    of = "all documents" if len(whole) else "this document alone"
    table = frames.rows(table, layer=view.layer)
    if table.empty:
        return
    metric = choices.table_metric("attention_routing", key="attention_effect")
    left, right = st.columns([1, 1], gap="large")
    with left:
        charts.show(
            figures.attention_routing(table, metric=metric, layer=view.layer),
            frames.rows(table, metric=metric),
            "attention_routing",
            f"attention_routing_layer_{view.layer}",
        )
    with right:
        st.markdown(
            f"Of {of}. Each cell compares the tokens that were sent to an expert with all tokens at like positions: "
            "how differently they look in one head of the same layer. Attention comes before the router, so what a "
            "head brings a token may be what the router chooses by; a difference shows that they go together, not "
            "which causes which. 0: no difference beyond where in the text the tokens stand."
        )


def lens(view: controls.PageView, excerpt: documents.Excerpt, maps: Maps) -> None:
    """Draw what each layer would predict."""
    st.header("What each layer would predict", anchor=False)
    texts.where_note("every token of one window of text")
    st.caption(
        "Logit lens: the model's final norm and unembedding applied to the residual stream after every layer. "
        "The last layer is the model itself."
    )
    if maps.size > settings.LENS_TOKENS:
        st.info(f"Windows of at most {settings.LENS_TOKENS} tokens are read; this one has {maps.size:,}.")
        return
    if not choices.switch("Read every layer as a prediction", "attention_lens"):
        return
    try:
        result = attention_maps.lens(view, excerpt.number, _chunk(excerpt))
    except InputError as error:
        st.warning(str(error))
        return
    by_token, by_layer = tables.logit_lens_tokens(result), tables.logit_lens(result)
    start = max(0, min(excerpt.window.start - maps.place, maps.size - 1))
    page = st.slider("From position", 0, max(1, maps.size - 20), start, 10, key="attention_lens_from")
    near = by_token[by_token["position"].between(page, page + 19).to_numpy(dtype=bool)]
    charts.show(
        figures.logit_lens_tokens(near, start=page),
        excerpt.with_number(near),
        "lens_tokens",
        f"logit_lens_document_{excerpt.number}",
    )
    charts.show(figures.logit_lens(by_layer), by_layer, "lens", "logit_lens")
