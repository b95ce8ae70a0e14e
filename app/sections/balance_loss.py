"""The parts of the page about the balance loss."""

import pandas as pd
import streamlit as st

from app.state import controls, settings, sources
from app.widgets import charts, choices, documents, frames
from mixtral_probe import figures
from mixtral_probe.report.equations import pooling_equation

PARTS = {
    "contribution": "Contribution",
    "excess": "Excess over balance",
    "pooling_gap_groups": "Hidden by pooling domains",
}
MEANING = {
    "contribution": "E f P of each expert. Over the experts of a layer these sum to the layer's loss, 1 at balance.",
    "excess": "E (f − 1/E)(P − 1/E) of each expert. Over the experts of a layer these sum to the layer's loss − 1.",
    "pooling_gap_groups": "E Cov(f, P) over domains. Domains that lean on different experts balance each other once "
    "they are pooled: these sum to the mean of the domains' losses minus the loss of all documents.",
}


def over_layers(loss: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return the rows about all layers together."""
    return frames.rows(loss[loss["layer"].isna().to_numpy(dtype=bool)], group=group)


def other_forms(view: controls.PageView) -> None:
    """Draw balance as other papers write it, behind a switch."""
    if not choices.switch("Balance in other published forms", "variants"):
        return
    st.markdown(
        "GShard's loss takes first choices alone, DeepSeek's loss and its max violation one sequence at a time "
        "(a document, or a window of a long one), Shazeer's CV² the weights; so they differ on the same routing. Each "
        "stands beside what chance gives as many tokens, which for short sequences is far above balance."
    )
    table = view.table("balance_variants")
    figure = view.figure("balance_variants", group=view.group)
    charts.show(figure, frames.rows(table, group=view.group), "balance_variants", "balance_variants")


def available_parts(parts: pd.DataFrame, group: str) -> list[str]:
    """List the metrics of the breakdown that the table has; the gap of pooled domains is about all of them."""
    available = set(frames.rows(parts, group=group)["metric"])
    return [name for name in PARTS if name in available]


def pooling_gap(loss: pd.DataFrame, parts: pd.DataFrame, group: str) -> None:
    """Draw what pooling the layers hides, as an equation and expert by expert."""
    if equation := pooling_equation(loss, parts, group=group):
        st.caption("What pooling the layers hides: pooled loss / K = mean of the layers' losses − covariance gap")
        st.code(equation, language=None)
    charts.show(
        figures.balance_loss_breakdown(parts, metric="pooling_gap_layers", group=group),
        frames.rows(parts, metric="pooling_gap_layers", group=group),
        "loss_pooling",
        "balance_loss_pooling_gap_layers",
    )
    st.markdown(
        "The loss that `transformers` reports pools all layers. Expert 3 of one layer and expert 3 of another are "
        "different networks, so an overload of the one is no relief for the other; yet once pooled they cancel. "
        "These parts sum to the mean of the layers' losses minus the pooled loss / K."
    )


def document_parts(view: controls.PageView, excerpt: documents.Excerpt) -> tuple[pd.DataFrame, str]:
    """Return the rows of `balance_loss_tokens` about one document, as document 0, and what was counted for them."""
    if view.trace.num_tokens <= settings.WHOLE_TRACE_TOKENS:
        whole = view.table("balance_loss_tokens")
        table, of = frames.rows(whole, document=excerpt.number), "all documents"
        table.attrs = whole.attrs
    else:
        table = sources.document_table(view.source, "balance_loss_tokens", excerpt.number, view.where)
        of = "this document alone"
    n = int(table["n"].max()) if len(table) else 0
    return table, f"loads f counted over {of}, n = {n:,} tokens, special tokens out"
