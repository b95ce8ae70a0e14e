"""The parts of the overview: sentences from the tables, and cards of model and texts from the trace's meta."""

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from app.state import address, controls, settings
from mixtral_probe import Trace
from mixtral_probe.report.headlines import headline, telling_row

_FINDINGS = {
    "expert_load": ("expert_load", "See the load"),
    "balance": ("expert_load", "See the balance"),
    "domain_specialization": ("specialization", "See the domains"),
    "router_confidence": ("token_routing", "See the routing"),
    "balance_loss": ("balance_loss", "See the loss"),
    "balance_loss_breakdown": ("balance_loss", "See its parts"),
}
"""Table of a sentence, the page with more of it, and the label of the button that leads there."""
_KEYS = ("layer", "expert", "group")


def run_in_words(trace: Trace) -> str:
    """Describe the run in one sentence, without any text of the trace."""
    special = int(trace.tokens["special"].sum())
    return (
        f"{trace.num_documents:,} documents of {trace.num_tokens:,} tokens ({special:,} of them special) went through "
        f"{trace.num_layers} layers of {trace.num_experts} experts, {trace.num_experts_per_tok} for each token. "
        "Intervals are 95 %; chance alone is what uniform routing of as many tokens gives."
    )


def findings(view: controls.PageView) -> None:
    """Draw a sentence per table, each with a button to its page."""
    for name in _FINDINGS:
        table = view.table(name)
        if sentence := headline(name, table):
            _finding(name, sentence, telling_row(name, table))


def _finding(name: str, sentence: str, row: dict[str, Any] | None) -> None:
    page, look = _FINDINGS[name]
    file = settings.PAGES / f"{page}.py"
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="medium"):
        st.html(f'<p class="finding">{escape(sentence)}</p>', width="stretch")
        if file.is_file() and st.button(look, key=f"finding_{name}", width="content"):
            controls.set_on_next_run(**{key: _plain(row[key]) for key in _KEYS if row is not None and key in row})
            st.switch_page(str(file.relative_to(settings.APP)), query_params=address.query())


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)


def model_card(trace: Trace) -> dict[str, str]:
    """Return name and value of what is known about the model."""
    meta, model = trace.meta, trace.meta.model
    total, active = model.get("parameters"), model.get("active_parameters")
    card = {
        "name": model.get("name"),
        "parameters": _number(total),
        "active for each token": f"{active:,} ({active / total:.1%})" if total and active else None,
        **{f"– {part}": f"{n:,} ({n / total:.1%})" for part, n in model.get("parameters_by_part", {}).items()},
        "layers × experts": f"{meta.num_layers} × {meta.num_experts}, {meta.num_experts_per_tok} per token",
        "attention heads": _number(meta.num_heads),
        "width": _number(model.get("hidden_size")),
        "width of an expert": _number(model.get("intermediate_size")),
        "vocabulary": _number(model.get("vocab_size")),
        "positions": _number(model.get("max_position_embeddings")),
        "computed in": meta.dtype and f"{meta.dtype} on {meta.device}",
        "fingerprint": str(model.get("fingerprint", ""))[:16],
    }
    return {name: str(value) for name, value in card.items() if value}


def data_card(trace: Trace) -> dict[str, str]:
    """Return name and value of what is known about the texts."""
    card = {
        "corpus": trace.meta.corpus.get("name"),
        "documents": f"{trace.num_documents:,}",
        "tokens": f"{trace.num_tokens:,}",
        "recorded": trace.meta.created,
        "attention": _layers(trace),
        **{label: _summary(_counts(trace, label)) for label in trace.labels},
    }
    return {name: str(value) for name, value in card.items() if value}


def labels(trace: Trace) -> None:
    """Draw all values of the labels that the card only counts, in an expander."""
    long = {label: counts for label in trace.labels if not _fits(counts := _counts(trace, label))}
    if not long:
        return
    with st.expander("All values of the labels with long lists"):
        for label, counts in long.items():
            table = counts.rename_axis(label).reset_index(name="documents")
            st.dataframe(table.head(settings.ROWS_SHOWN), hide_index=True, key=f"label_{label}")


def _counts(trace: Trace, label: str) -> pd.Series:
    """Count documents by value of a label, the commonest first."""
    counts = trace.documents[label].astype(str).value_counts()
    return counts.sort_index().sort_values(ascending=False, kind="stable")


def _fits(counts: pd.Series) -> bool:
    return len(counts) <= settings.LABEL_VALUES and len(_listed(counts)) <= settings.LABEL_CHARACTERS


def _summary(counts: pd.Series) -> str:
    return _listed(counts) if _fits(counts) else f"{len(counts):,} values, in the list below"


def _listed(counts: pd.Series) -> str:
    return ", ".join(f"{value} {number}" for value, number in counts.items())


def _layers(trace: Trace) -> str:
    recorded = trace.attention_layers
    if len(recorded) == trace.num_layers:
        return "of all layers"
    return f"of layers {', '.join(map(str, recorded))}" if recorded else "not recorded"


def facts(card: dict[str, str]) -> None:
    """Draw a card as a list of names and values, both escaped since they may contain any text."""
    lines = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in card.items())
    st.html(f'<dl class="facts">{lines}</dl>')


def _text(value: str) -> str:
    return escape(value.encode("utf-8", "backslashreplace").decode())


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"
