"""A formula of counts kept by layer, group and block of documents, as rows with intervals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.metrics import jackknife_interval
from mixtral_probe.tables.frame import Estimate, estimate_rows

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Counted(NamedTuple):
    """One metric: a formula of some counts [L, G, Bk, ...], and what its rows are about."""

    name: str
    formula: Callable[..., Floats]
    parts: tuple[NDArray[Any], ...]
    null: NDArray[Any] | float
    n: Counts
    """[L, G, tail]"""
    scope: str
    empty: str
    high: float = 1.0
    low: float = 0.0

    def rows(self, keys: dict[str, Any], sizes: Counts, folded: bool) -> pd.DataFrame:
        """The metric's rows, without interval where the value rests on one block; sizes: [L, G, Bk, tail] or 1s."""
        totals = [part.sum(2) for part in self.parts]
        value = self.formula(*totals)
        deleted = self.formula(
            *(total[:, :, None] - part for total, part in zip(totals, self.parts, strict=True))
        )  # [L, G, Bk, tail]
        ends = jackknife_interval(value, np.moveaxis(deleted, 2, -1), np.moveaxis(sizes, 2, -1))
        low, high = (np.clip(end, self.low, self.high) for end in ends)
        blocks = np.broadcast_to((sizes > 0).sum(2), value.shape)
        found = Estimate(value, low, high, np.where(np.isnan(low), np.minimum(blocks, 1), blocks), folded)
        n = np.where(np.isnan(value), 0, self.n)
        return estimate_rows(keys, self.name, found, self.null, n, self.scope, self.empty)
