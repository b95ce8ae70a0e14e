"""Published routing counts of the real Mixtral-8x7B as a table, for comparison."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.resources import data_path
from mixtral_probe.stats import ALL
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.load import expert_load
from mixtral_probe.tables.spec import TableSpec

_CHOSEN = 2


def real_mixtral_load() -> pd.DataFrame:
    """Return real Mixtral-8x7B-v0.1 in the form of `expert_load`: 5 domains at layers 0, 7, 15, and MMLU at all 32.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope. Group "all" is the sum of the 5
    domains; "mmlu" is a mean of shares over 14,042 items whose tokens were not published (n is missing). Only totals
    were published, so no interval can be computed. Origin and licence: data/real_mixtral/README.md.
    """
    counts = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_domain_counts.csv")
    pooled = counts.groupby(["layer", "expert"], as_index=False)[["n_tokens", "top2_count"]].sum().assign(domain=ALL)
    mmlu = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_mmlu_load.csv", index_col="layer")
    parts = [*_from_counts(counts), *_from_counts(pooled), *_from_shares(mmlu)]
    return tidy(parts, SPEC)


def _from_counts(counts: pd.DataFrame) -> list[pd.DataFrame]:
    ordered = counts.sort_values(["domain", "layer", "expert"])
    wide = ordered["top2_count"].to_numpy().reshape(-1, ordered["expert"].nunique())  # [domain and layer, E]
    tokens = ordered["n_tokens"].to_numpy().reshape(wide.shape)
    keys = {name: ordered[column].to_numpy().reshape(wide.shape) for name, column in _KEYS.items()}
    scope = "one layer; Mixtral-8x7B-v0.1, published counts of the first 2 choices; {}; no documents: no interval"
    forms = {
        "share": (metrics.share(wide), 1, "share of assignments"),
        "selection_frequency": (metrics.selection_frequency(wide, tokens[:, 0]), _CHOSEN, "share of tokens"),
    }
    return [
        rows(keys, name, value, null=chosen / wide.shape[-1], n=tokens, scope=scope.format(words))
        for name, (value, chosen, words) in forms.items()
    ]


_KEYS = {"layer": "layer", "group": "domain", "expert": "expert"}


def _from_shares(mmlu: pd.DataFrame) -> list[pd.DataFrame]:
    share = mmlu.to_numpy(dtype=np.float64)  # [L, E]
    keys = {"layer": mmlu.index.to_numpy()[:, None], "group": "mmlu", "expert": np.arange(share.shape[1])}
    scope = "one layer; Mixtral-8x7B, mean over 14,042 MMLU items; {}; n not published, no interval"
    forms = {"share": (1, "share of assignments"), "selection_frequency": (_CHOSEN, "share of tokens")}
    return [
        rows(keys, name, chosen * share, null=chosen / share.shape[1], n=np.nan, scope=scope.format(words))
        for name, (chosen, words) in forms.items()
    ]


SPEC = TableSpec(
    function=real_mixtral_load,
    source="part",
    description="Published load of the experts of the real Mixtral-8x7B, for comparison.",
    keys=("layer", "group", "expert"),
    metrics={name: expert_load.SPEC.metrics[name] for name in ("share", "selection_frequency")},
    figures=(),
    narrows=False,
)
