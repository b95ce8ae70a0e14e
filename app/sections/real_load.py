"""The published load of the real Mixtral-8x7B, for comparison."""

import streamlit as st

from app.state import address, sources
from app.widgets import charts, choices, frames, texts
from mixtral_probe.stats import ALL

_MMLU = "mmlu"


def section() -> None:
    """Draw the real model's load behind a switch, since its charts would delay those above."""
    st.header("For comparison: the real Mixtral-8x7B", anchor=False)
    if choices.switch("Show its published load", "real"):
        _load()


def _load() -> None:
    """Draw the real model's 32 layers over MMLU, and one layer in detail."""
    texts.where_note("published counts of another model")
    real = sources.real_mixtral()
    st.caption(
        "Published routing counts of Mixtral-8x7B (32 layers × 8 experts, 2 per token). By domain: "
        "allenai/OLMoE, `scripts/routing_output/mistral`, 208,896 tokens per domain at layers 0, 7 and 15. "
        "MMLU: ajtejankar/mixtral-vis-moe, `frac_vecs`, 14,042 items, all layers. Both Apache-2.0."
    )
    left, right = st.columns([1, 1], gap="large")
    with right:
        address.keep("real_group", _groups())
        group = st.selectbox("Texts", _groups(), key="real_group", format_func=_name)
        layers = sorted(int(layer) for layer in frames.rows(real, group=group)["layer"].unique())
        layer = st.select_slider("Layer of the real model", layers, key=f"real_layer_{len(layers)}")
        charts.show(
            sources.real_figure("expert_load", layer=layer, group=group),
            frames.rows(real, layer=layer, group=group, metric="share"),
            "real_bars",
            f"real_mixtral_layer_{layer}",
        )
        by_layer = frames.rows(real, layer=layer, metric="share")
        charts.show(
            sources.real_figure("expert_load_groups", layer=layer),
            by_layer,
            "real_groups",
            f"real_mixtral_groups_layer_{layer}",
        )
    with left:
        charts.show(
            sources.real_figure("expert_load_map", group=_MMLU),
            frames.rows(real, group=_MMLU, metric="share"),
            "real_map",
            "real_mixtral_load",
        )


def _groups() -> list[str]:
    names = [name for name in sources.real_mixtral()["group"].unique() if name not in (ALL, _MMLU)]
    return [ALL, *sorted(names), _MMLU]


def _name(group: str) -> str:
    return {ALL: "all five domains", _MMLU: "MMLU"}.get(group, group)
