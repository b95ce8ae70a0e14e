"""What each expert does to its tokens: `saliency`, `promoted_tokens`, `expert_contexts`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.by_document import ByDocument, Ratio, grid
from mixtral_probe.tables.frame import integers, rows, tidy
from mixtral_probe.trace import Result, SaliencyResult

Floats = NDArray[np.float64]
KEYS = ("layer", "group", "expert")
SALIENCY = {
    "selection_frequency": "share of tokens that chose the expert, n_i / T, K/E when even",
    "weighted_frequency": "sum of the expert's routing weights / tokens, 1/E when even",
    "activation_norm": "EAN: mean length of the expert's output over its tokens; null: over all of the layer",
    "reap": "mean of routing weight times output length over its tokens; null: over all of the layer",
    "largest_output": "largest |value| of any channel of its output on any token; null: threshold of a super expert",
    "super_expert": "1 if its largest output is above the threshold and its layer forms massive activations, else 0",
}
PLACES = ("layer", "expert", "place")
PROMOTED = ("token_id", "token", "logit", "n")
CONTEXTS = ("document", "chunk", "position", "before", "token", "after", "contribution", "n")
COLUMNS = {
    "place": "place in the list, 0 = first",
    "token_id": "id of the token",
    "logit": "how much the expert's mean addition raises the token's logit, beyond that of the layer's experts",
    "before": "text before the token, at most 12 tokens",
    "after": "text after the token, at most 12 tokens",
    "contribution": "routing weight times length of the expert's output",
    "n": "tokens the expert was chosen for",
}
"""What columns mean here."""


def saliency(result: Result, *, by: str | None = "domain") -> pd.DataFrame:
    """How much each expert adds to the tokens routed to it, and which are super experts.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope.

    Args:
        result: of the kind "saliency".
        by: a label of the documents, with rows for each of its values beside those of "all"; None for none.

    Raises:
        InputError: the result is of another kind, or the documents lack the label.
    """
    result = SaliencyResult.require(result, "the table saliency")
    documents = ByDocument.of(result, by)
    keys = grid(result, documents.groups, "expert")
    parts = [part.rows(keys, documents.folded) for part in _sums(result, documents)]
    return tidy([*parts, *_largest(result)], KEYS)


def _sums(result: SaliencyResult, documents: ByDocument) -> list[Ratio]:
    counts, norms, gated, gates = map(documents.sums, (result.counts, result.norms, result.gated_norms, result.gates))
    chosen = result.experts_per_token
    tokens = np.broadcast_to(counts.sum(-1, keepdims=True) / chosen, counts.shape)
    about, never = "one layer; special tokens out; ", "the expert was never chosen"
    experts = counts.shape[-1]
    return [
        Ratio(
            "selection_frequency", metrics.ratio, (counts, tokens), tokens, chosen / experts,
            about + "share of tokens", "no tokens", (0, 1),
        ),
        Ratio(
            "weighted_frequency", metrics.ratio, (gates, tokens), tokens, 1 / experts,
            about + "weights / tokens", "no tokens", (0, 1),
        ),
        Ratio(
            "activation_norm", metrics.expert_activation_norm, (norms, counts), counts, _usual(norms, counts),
            about + "mean over the expert's tokens; null: over all assignments of the layer", never,
        ),
        Ratio(
            "reap", metrics.reap_saliency, (gated, counts), counts, _usual(gated, counts),
            about + "mean over the expert's tokens; null: over all assignments of the layer", never,
        ),
    ]  # fmt: skip


def _usual(sums: Floats, counts: Floats) -> Floats:
    """[L, G, 1] the mean over all assignments of a layer."""
    return metrics.ratio(sums.sum((2, 3)), counts.sum((2, 3)))[..., None]


def _largest(result: SaliencyResult) -> list[pd.DataFrame]:
    keys = grid(result, ("all",), "expert")
    held, n = result.largest, result.counts.sum(1)[:, None]
    threshold = metrics.super_expert_threshold(held)
    about = "all layers compared; all tokens; n without special tokens; "
    found = result.super_experts.astype(float)
    return [
        rows(keys, "largest_output", held[:, None], null=threshold, n=n, scope=about + "no interval: a maximum"),
        rows(keys, "super_expert", found[:, None], null=0.0, n=n, scope=about + "no interval: yes or no"),
    ]


def promoted_tokens(result: Result) -> pd.DataFrame:
    """The tokens whose logits an expert raises most, compared with the layer's other experts (logit lens).

    Columns: layer, expert, place, token_id, token, logit, n. The logit is that of the expert's mean addition to the
    residual stream, over the stream's root mean square there, less the mean addition of all the layer's experts, read
    through the final norm's weights and the unembedding, less its mean over the vocabulary.

    Raises:
        InputError: the result is of another kind.
    """
    result = SaliencyResult.require(result, "the table promoted_tokens")
    layer, expert, place = np.nonzero(result.promoted_ids >= 0)
    ids = result.promoted_ids[layer, expert, place]
    table = pd.DataFrame(
        {
            "layer": layer, "expert": expert, "place": place, "token_id": ids,
            "token": _texts(result.pieces[str(i)] for i in ids.tolist()),
            "logit": result.promoted_logits[layer, expert, place],
            "n": result.counts.sum(1)[layer, expert].astype(np.int64),
        }
    )  # fmt: skip
    return integers(table)


def expert_contexts(result: Result) -> pd.DataFrame:
    """Where each expert adds most to the residual stream: the tokens, and those around them.

    Columns: layer, expert, place, document, chunk, position, before, token, after, contribution, n. The contribution
    is the routing weight times the length of the expert's output.

    Raises:
        InputError: the result is of another kind.
    """
    result = SaliencyResult.require(result, "the table expert_contexts")
    layer, expert, place = np.nonzero(result.context_rows >= 0)
    held = [result.contexts[str(row)] for row in result.context_rows[layer, expert, place].tolist()]
    table = pd.DataFrame({"layer": layer, "expert": expert, "place": place})
    for name in ("document", "chunk", "position"):
        table[name] = np.array([context[name] for context in held], np.int64)
    for name in ("before", "token", "after"):
        table[name] = _texts(context[name] for context in held)
    table["contribution"] = result.context_scores[layer, expert, place]
    return integers(table.assign(n=result.counts.sum(1)[layer, expert].astype(np.int64)))


def _texts(texts: object) -> pd.Series:
    return pd.Series(list(texts), dtype="str")  # type: ignore[call-overload]
