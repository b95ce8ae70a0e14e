"""Routing of words, lines and sentences, and all logits of one token: `unit_routes`, `token_logits`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import VALUE_COLUMNS, integers
from mixtral_probe.trace import Trace, unit_numbers

_UNIT_KEYS = ("document", "chunk", "position", "place", "token", "layer", "expert")
_TOKEN_KEYS = ("document", "chunk", "position")


def unit_routes(trace: Trace, *, unit: str) -> pd.DataFrame:
    """Which experts the tokens of each word, line or sentence went to: a row per unit, layer and expert among them.

    Columns: document, chunk, position (of the unit's first token), place (of the unit in the trace), token (text of the
    whole unit), layer, expert, metric, value, low, high, null, n (the unit's tokens that went to experts), scope. The
    value is the expert's share of these tokens' gate weights; where no weights were recorded every choice weighs the
    same. Special tokens are units of their own.

    Args:
        trace: with the tokens' texts; a token without one stands alone.
        unit: one of `mixtral_probe.trace.UNITS`.

    Raises:
        InputError: there is no such unit.
    """
    number, texts = _units(trace, unit)
    total, counted = _sums(trace, number)
    place, layer, expert = np.nonzero(total.transpose(1, 0, 2))
    first = np.flatnonzero(np.diff(number, prepend=-1))[place]
    value = total[layer, place, expert] / total.sum(-1)[layer, place]
    weighed = "choices, as no weights were recorded" if trace.expert_weights is None else "gate weights"
    scope = f"one {unit} of one layer; share of its tokens' {weighed}; one {unit}: no interval"
    table = pd.DataFrame(
        {name: trace.tokens[name].to_numpy()[first] for name in _TOKEN_KEYS}
        | {"place": place, "token": pd.Series([texts[at] for at in place.tolist()], dtype=object)}
        | {"layer": np.array(trace.layers)[layer], "expert": expert, "metric": "unit_share", "value": value}
        | {"low": np.nan, "high": np.nan, "null": 1 / trace.num_experts, "n": counted[layer, place], "scope": scope}
    )
    return integers(table)[[*_UNIT_KEYS, *VALUE_COLUMNS]]


def _units(trace: Trace, unit: str) -> tuple[NDArray[np.int64], list[str]]:
    """[T] the number of each token's unit, and the units' texts."""
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


def token_logits(trace: Trace, *, document: int = 0, chunk: int = 0, position: int) -> pd.DataFrame:
    """What the router of every layer gave every expert for one token: a row per layer and expert.

    Columns: document, chunk, position, layer, expert, logit. Empty without router logits.

    Args:
        trace: the trace.
        document, chunk, position: the token.

    Raises:
        InputError: there is no such token.
    """
    here = {"document": document, "chunk": chunk, "position": position}
    found = np.logical_and.reduce([(trace.tokens[name] == at).to_numpy(dtype=bool) for name, at in here.items()])
    if not found.any():
        asked = ", ".join(f"{name} {at}" for name, at in here.items())
        raise InputError(f"logits are those of one token, but there is none at {asked}")
    row = int(found.argmax())
    logits = np.zeros((0, 0)) if trace.router_logits is None else np.asarray(trace.router_logits[:, row], np.float64)
    layer, expert = (axis.ravel() for axis in np.indices(logits.shape))
    table = pd.DataFrame({"layer": np.array(trace.layers)[layer], "expert": expert, "logit": logits.ravel()})
    return integers(table.assign(**here))[[*_TOKEN_KEYS, "layer", "expert", "logit"]]
