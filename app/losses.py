"""What the page about the balance loss says and picks from its tables."""

import controls
import documents
import pandas as pd
import settings
import sources
import streamlit as st
import words

from mixtral_probe.stats import ALL

PARTS = {
    "contribution": "Contribution",
    "excess": "Excess over balance",
    "pooling_gap_groups": "Hidden by pooling domains",
    "pooling_gap_layers": "Hidden by pooling layers",
}
MEANING = {
    "contribution": "E f P of each expert. Over the experts of a layer these sum to the layer's loss, 1 at balance.",
    "excess": "E (f − 1/E)(P − 1/E) of each expert. Over the experts of a layer these sum to the layer's loss − 1.",
    "pooling_gap_groups": "E Cov(f, P) over domains. Domains that lean on different experts balance each other once "
    "they are pooled: these sum to the mean of the domains' losses minus the loss of all documents.",
    "pooling_gap_layers": "E Cov(f, P) over layers. The loss that transformers computes pools all layers, so layers that "
    "lean on different experts look balanced: these sum to the mean of the layers' losses minus the pooled loss / K.",
}


def over_layers(loss: pd.DataFrame, group: str) -> pd.DataFrame:
    """The rows about all layers together."""
    return words.rows(loss[loss["layer"].isna().to_numpy(dtype=bool)], group=group)


def parts_offered(parts: pd.DataFrame, group: str) -> list[str]:
    """The metrics of the breakdown that the table has; what pooling domains hides is about all of them."""
    held = set(parts["metric"])
    offered = [name for name in PARTS if name in held and (name != "pooling_gap_groups" or group == ALL)]
    controls.keep_valid("part", offered)
    return offered


def hidden_by_pooling(loss: pd.DataFrame, parts: pd.DataFrame, chosen: controls.Chosen) -> None:
    """The pooled loss beside the mean of the layers, which pooling hides the difference of."""
    st.subheader("What pooling hides", anchor=False)
    over = over_layers(loss, chosen.group).set_index("metric")
    st.markdown(
        "All layers of a model are pooled in the loss that `transformers` reports, and a batch pools its domains. "
        "Expert 3 of one layer and expert 3 of another are different networks, so an overload of the one is no relief "
        "for the other, but in the pooled loss they cancel."
    )
    words.number(over.loc["load_balancing_loss_mean"], "load_balancing_loss_mean")
    words.number(over.loc["load_balancing_loss_pooled"], "load_balancing_loss_pooled")
    st.caption(MEANING["pooling_gap_layers"])


def of_document(chosen: controls.Chosen, shown: documents.Shown) -> tuple[pd.DataFrame, str]:
    """The rows of `balance_loss_tokens` about one document, as if it were document 0, and what was counted for them."""
    if chosen.trace.num_tokens <= settings.WHOLE_TRACE_TOKENS:
        whole = chosen.table("balance_loss_tokens")
        table, of = words.rows(whole, document=shown.number), "all documents"
        table.attrs = whole.attrs
    else:
        table, of = sources.document_table(chosen.source, "balance_loss_tokens", shown.number), "this document alone"
    n = int(table["n"].max()) if len(table) else 0
    return table, f"loads f counted over {of}, n = {n:,} tokens, special tokens out"
