"""Routing of words, lines and sentences: `unit_routes`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import EVEN_USE, SHARE
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace, unit_numbers

_PLACE = ("document", "chunk", "position")


@of_trace
def unit_routes(trace: Trace, *, unit: str) -> pd.DataFrame:
    """Return which experts the tokens of each word, line or sentence went to: a row per unit, layer and expert.

    Columns: document, chunk, position (of the unit's first token), place (of the unit in the trace), token (text of the
    whole unit), layer, expert, metric, value, corrected, low, high, null, n (the unit's tokens that went to experts),
    scope. The value is the expert's share of these tokens' gate weights; where no weights were recorded every choice
    has the same weight. Each special token is a unit.

    Args:
        trace: with the tokens' texts; a token without one is a unit.
        unit: one of `mixtral_probe.trace.UNITS`.

    Raises:
        InputError: the unit is unknown.
    """
    number, texts = _units(trace, unit)
    total, counted = _sums(trace, number)
    place, layer, expert = np.nonzero(total.transpose(1, 0, 2))
    first = np.flatnonzero(np.diff(number, prepend=-1))[place]
    value = total[layer, place, expert] / total.sum(-1)[layer, place]
    weighed = "choices, as no weights were recorded" if trace.expert_weights is None else "gate weights"
    scope = f"one {unit} of one layer; share of its tokens' {weighed}; one {unit}: no interval"
    table = pd.DataFrame(
        {name: trace.tokens[name].to_numpy()[first] for name in _PLACE}
        | {"place": place, "token": pd.Series([texts[at] for at in place.tolist()], dtype=object)}
        | {"layer": np.array(trace.layers)[layer], "expert": expert, "metric": "unit_share", "value": value}
        | {
            "corrected": np.nan,
            "low": np.nan,
            "high": np.nan,
            "null": 1 / trace.num_experts,
            "n": counted[layer, place],
            "scope": scope,
        }
    )
    return with_dtypes(table, SPEC)


def _units(trace: Trace, unit: str) -> tuple[NDArray[np.int64], list[str]]:
    """[T] the number of each token's unit, and the texts of the units."""
    tokens = trace.tokens
    pieces = [piece if isinstance(piece, str) else "" for piece in tokens["piece"]]
    special = tokens["special"].to_numpy(dtype=bool)
    window = tokens["document"].to_numpy(np.int64) * 2**32 + tokens["chunk"].to_numpy(np.int64)
    starts = special | np.r_[False, special[:-1]] | (np.diff(window, prepend=-1) != 0)
    number = unit_numbers(pieces, unit, starts)
    texts = [""] * (int(number[-1]) + 1 if len(number) else 0)
    for at, piece in zip(number.tolist(), pieces, strict=True):
        texts[at] += piece
    return number, texts


def _sums(trace: Trace, number: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[L, units, E] gate weights, and [L, units] tokens that went to experts."""
    ids = np.asarray(trace.expert_ids)
    weights = np.ones(ids.shape) if trace.expert_weights is None else np.asarray(trace.expert_weights, np.float64)
    units = int(number[-1]) + 1 if len(number) else 0
    total = np.zeros((len(ids), units, trace.num_experts))
    counted = np.zeros((len(ids), units), np.int64)
    layer, token, rank = np.nonzero(ids >= 0)
    np.add.at(total, (layer, number[token], ids[layer, token, rank]), weights[layer, token, rank])
    np.add.at(counted, (layer[rank == 0], number[token[rank == 0]]), 1)
    return total, counted


SPEC = TableSpec(
    function=unit_routes,
    source="part",
    description="Which experts the tokens of each word, line or sentence went to.",
    keys=(*_PLACE, "place", "token", "layer", "expert"),
    metrics={
        "unit_share": Metric(
            "share of the gate weights of the unit's tokens that the expert has, 1/E when even",
            "share of the unit",
            ".1%",
            SHARE,
            EVEN_USE,
        )
    },
    figures=(),
    narrows=True,
)
