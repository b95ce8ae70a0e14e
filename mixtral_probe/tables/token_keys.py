"""The key columns of tables with a row per token."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.trace import Trace

TOKEN_KEYS = ("document", "chunk", "position", "token")


def token_keys(trace: Trace, rows: NDArray[np.intp], tail: tuple[int, ...]) -> dict[str, Any]:
    """Return the key columns of the tokens `rows`, each repeated for the axes `tail`; token texts stay categories."""
    tokens, times = trace.tokens.iloc[rows], int(np.prod(tail))
    pieces = tokens["piece"].cat
    keys = {name: np.repeat(tokens[name].to_numpy(), times) for name in ("document", "chunk", "position")}
    return keys | {"token": pd.Categorical.from_codes(np.repeat(pieces.codes, times), pieces.categories)}


def flat(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array broadcast to a shape, as one column."""
    return np.broadcast_to(array, shape).ravel()


def first_window(table: pd.DataFrame) -> dict[str, int]:
    """Return document and chunk of the first row."""
    return {name: int(table[name].iloc[0]) for name in ("document", "chunk")}
