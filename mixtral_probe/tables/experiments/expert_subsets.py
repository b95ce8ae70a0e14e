"""How far a layer's output is from itself without most of its experts: `expert_subsets`."""

import numpy as np
import pandas as pd

from mixtral_probe.tables.experiments.by_document import grid
from mixtral_probe.tables.experiments.expert_similarity import PAIR_COLUMNS
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.phrases import POSITIVE
from mixtral_probe.tables.spec import Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import Result, SubsetsResult


@of_result
def expert_subsets(result: Result) -> pd.DataFrame:
    """Return how far a layer's output is from that of all experts when only some may be chosen.

    Columns: layer, group ("all"), size, subset, metric, value, corrected, low, high, null, n, scope; subset is text
    such as "0,3,5".

    Args:
        result: of the kind "expert_subsets".

    Raises:
        InputError: the result is of another kind.
    """
    result = SubsetsResult.require(result, "the table expert_subsets")
    kept, errors = result.kept, result.error[:, None]
    size = kept.sum(1)
    mean = np.stack([errors[..., size == number].mean(-1) for number in size], axis=-1)
    names = np.array([",".join(map(str, np.flatnonzero(mask))) for mask in kept], dtype=object)
    keys = grid(result, ("all",)) | {"size": size, "subset": names}
    keys = {name: np.expand_dims(array, -1) if name in ("layer", "group") else array for name, array in keys.items()}
    scope = "one layer, the others whole; a sample of tokens, special tokens out; no interval: a sample"
    parts = [rows(keys, "subset_error", errors, null=mean, n=result.sampled, scope=scope)]
    return tidy(parts, SPEC)


SPEC = TableSpec(
    function=expert_subsets,
    source="result",
    description="How far a layer's output is from that of all its experts when only some may be chosen.",
    keys=("layer", "group", "size", "subset"),
    metrics={
        "subset_error": Metric(
            "||F(x; subset) - F(x)|| / ||F(x)|| of the layer's output; null: mean over subsets so large",
            "relative error of the layer's output",
            bounds=POSITIVE,
            null="mean of subsets so large",
        )
    },
    figures=(Drawing("expert_subsets"),),
    narrows=False,
    meanings={
        "size": Column("how many experts are kept", "Int64"),
        "subset": Column("the experts kept, with commas between", "str"),
        "n": PAIR_COLUMNS["n"],
    },
)
