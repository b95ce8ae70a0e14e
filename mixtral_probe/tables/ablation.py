"""What is lost without an expert: `ablation`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.by_document import ByDocument, Ratio, grid
from mixtral_probe.tables.frame import tidy
from mixtral_probe.trace import AblationResult, Result

Floats = NDArray[np.float64]
KEYS = ("layer", "group", "expert")
ABLATION = {
    "loss_increase": "mean loss per token without the expert less that with it, nats; null: its placebo",
    "placebo_loss_increase": "the same when as many assignments of random tokens are damaged alike, nats; null: 0",
    "loss_increase_beyond_placebo": "loss_increase less placebo_loss_increase, nats; null: 0",
    "loss_increase_per_use": "all that is lost / tokens that chose the expert, nats; null: its placebo",
    "selection_frequency": "share of tokens that chose the expert, K/E when even",
}
_WORDS = {
    "mask": "the expert cannot be chosen, the next best takes over, weights renormalised",
    "zero": "the expert's output is 0, weights kept",
    "zero_renorm": "the expert's output is 0, the token's other weights renormalised",
    "mean": "the expert's output is its mean over these documents, weights kept",
}


def ablation(result: Result, *, by: str | None = "domain") -> pd.DataFrame:
    """What is lost without each expert, beside a placebo; the same documents with and without, so intervals are paired.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope.

    Args:
        result: of the kind "ablation".
        by: a label of the documents, with rows for each of its values beside those of "all"; None for none.

    Raises:
        InputError: the result is of another kind, or the documents lack the label.
    """
    result = AblationResult.require(result, "the table ablation")
    documents = ByDocument.of(result, by)
    keys = grid(result, documents.groups, "expert")
    return tidy([part.rows(keys, documents.folded) for part in _parts(result, documents)], KEYS)


def _parts(result: AblationResult, documents: ByDocument) -> list[Ratio]:
    shape = result.ablated.shape
    ablated, used = (np.moveaxis(sums, 1, -1) for sums in (result.ablated, result.routed))  # [L, documents, E]
    base, tokens = (
        np.broadcast_to(sums[:, None], (shape[0], shape[2], shape[1])) for sums in (result.nll, result.tokens)
    )
    lost, n, uses = (documents.sums(values) for values in (ablated - base, tokens, used))
    about = f"one layer; tokens with a loss, special ones out; {_WORDS[result.semantics]}; "
    even = result.experts_per_token / result.num_experts
    parts = [Ratio("selection_frequency", metrics.ratio, (uses, n), n, even, about + "before", "no tokens", (0, 1))]
    if not result.has_placebo:
        return [*parts, *_lost(lost, n, uses, np.array(np.nan), np.array(np.nan), about + "no placebo was run")]
    fake = documents.sums(np.moveaxis(result.placebo, 1, -1) - base)
    total = fake.sum(2)
    nulls = metrics.ratio(total, n.sum(2)), metrics.ratio(total, uses.sum(2))
    words = about + "placebo: as many assignments of random tokens, rank by rank and document by document"
    both = (
        _difference("placebo_loss_increase", fake, n, words),
        _difference("loss_increase_beyond_placebo", lost - fake, n, words),
    )
    return [*parts, *_lost(lost, n, uses, *nulls, words), *both]


def _lost(lost: Floats, n: Floats, uses: Floats, null: Floats, per_use: Floats, scope: str) -> list[Ratio]:
    never, anything = "the expert was never chosen", (-np.inf, np.inf)
    return [
        Ratio("loss_increase", metrics.ratio, (lost, n), n, null, scope, "no tokens", anything),
        Ratio("loss_increase_per_use", metrics.ratio, (lost, uses), uses, per_use, scope, never, anything),
    ]


def _difference(metric: str, lost: Floats, n: Floats, scope: str) -> Ratio:
    return Ratio(metric, metrics.ratio, (lost, n), n, 0.0, scope, "no tokens", (-np.inf, np.inf))
