"""The band of a placebo: the range of its draws, beside the value that is compared with them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.spec import VALUES, Column

Floats = NDArray[np.float64]
BAND: Mapping[str, Column] = {
    "placebo_low": Column("least of the draws of the placebo; empty with fewer than 2, as `scope` says", "float64"),
    "placebo_high": Column("greatest of them", "float64"),
    "placebo_draws": Column("draws of the placebo, whose mean and range are given", "Int64"),
}
"""The columns of a band."""
NO_PLACEBO = "no placebo was run"


def with_band(*columns: str) -> tuple[str, ...]:
    """Return the columns after the keys of a table with bands: some names after `null`."""
    place = VALUES.index("null") + 1
    return (*VALUES[:place], *BAND, *columns, *VALUES[place:])


def band(draws: Floats) -> dict[str, Any]:
    """Return the columns of a band, each [...], of draws [D, ...]; the ends are missing with fewer than two draws."""
    number = len(draws)
    ends = (draws.min(0), draws.max(0)) if number > 1 else (np.full(draws.shape[1:], np.nan),) * 2
    return {"placebo_low": ends[0], "placebo_high": ends[1], "placebo_draws": number or None}


def band_words(draws: int) -> str:
    """Return what a scope says about a band."""
    if draws < 2:
        return "1 draw of the placebo: no band" if draws else NO_PLACEBO
    percent = f"{100 * metrics.draw_level(draws):.3g} %"
    return f"band: range of {draws} draws of the placebo, which holds an exchangeable one in {percent} of cases"


def mean_of(draws: Floats) -> Floats:
    """[...] the mean of draws [D, ...]; NaN without any."""
    return draws.mean(0) if len(draws) else np.full(draws.shape[1:], np.nan)
