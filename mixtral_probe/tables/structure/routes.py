"""Which experts each token went to: `routes`."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.metrics import chosen_mask, selection_margin
from mixtral_probe.stats import counted_chunks, counted_rows
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.spec import Drawing, Options, TableSpec
from mixtral_probe.tables.token_keys import TOKEN_KEYS, first_window, flat, token_keys
from mixtral_probe.trace import Trace


@of_trace
def routes(trace: Trace) -> pd.DataFrame:
    """Return which experts each token went to: a row per token, layer and rank, special tokens too.

    Columns: document, chunk, position, token (text), layer, rank (0 = strongest), expert, weight, margin. The margin is
    that of the token's whole choice, z_(K) - z_(K+1), the same for all its ranks; it is missing when logits were not
    recorded or no other expert could be chosen. The weight is missing when weights were not recorded.
    """
    ids = np.asarray(trace.expert_ids).transpose(1, 0, 2)  # [T, L, K]
    table = pd.DataFrame(
        token_keys(trace, np.arange(len(trace)), ids.shape[1:])
        | {
            "layer": flat(np.array(trace.layers)[:, None], ids.shape),
            "rank": flat(np.arange(trace.num_experts_per_tok), ids.shape),
            "expert": ids.ravel(),
            "weight": flat(_weights(trace), ids.shape),
            "margin": flat(_margins(trace)[..., None], ids.shape),
        }
    )
    return with_dtypes(table[table["expert"] >= 0].reset_index(drop=True), SPEC)


def _weights(trace: Trace) -> NDArray[np.float64]:
    """[T, L, K], or NaN."""
    if trace.expert_weights is None:
        return np.array(np.nan)
    return np.asarray(trace.expert_weights, np.float64).transpose(1, 0, 2)


def _margins(trace: Trace) -> NDArray[np.float64]:
    """[T, L] selection margins, NaN where a token has none."""
    margin = np.full((len(trace), trace.num_layers), np.nan)
    for part in counted_chunks(trace, counted_rows(trace, include_special=True)):
        if part.logits is not None:
            chosen = chosen_mask(part.ids, trace.num_experts).any(-2)
            margins = selection_margin(part.logits, chosen).T
            margin[part.rows] = np.where(np.isfinite(margins), margins, np.nan)
    return margin


def _last_token(table: pd.DataFrame) -> Iterator[Options]:
    """Yield the last token of the first window."""
    keys = first_window(table)
    window = table[(table["document"] == keys["document"]) & (table["chunk"] == keys["chunk"])]
    yield {"position": int(window["position"].max()), **keys}


SPEC = TableSpec(
    function=routes,
    source="trace",
    description="Which experts each token went to, special tokens too; the margin is that of the token's whole choice.",
    keys=(*TOKEN_KEYS, "layer", "rank"),
    metrics={},
    figures=(Drawing("token_route", _last_token),),
    narrows=True,
    values=("expert", "weight", "margin"),
    per_token=True,
)
