"""The runs of a what-if, as arrays with a row for each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.trace import WhatIf


def three_runs(values: Any) -> NDArray[np.float64]:
    """[3, …] values [runs, …] without edits, with them and of the placebo; missing without a placebo."""
    runs = np.asarray(values, np.float64)
    return runs if len(runs) == 3 else np.concatenate([runs, np.full_like(runs[:1], np.nan)])


def rerouted(result: WhatIf, run: int) -> NDArray[np.bool_]:
    """[L, T] whether a token has another set of experts."""
    before, after = (np.sort(result.expert_ids[side], axis=-1) for side in (0, run))
    return (before != after).any(-1)
