"""What a token and its neighbours tell about the expert, held against shuffles: `context_information`."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Chunk, counted_rows, groups_of
from mixtral_probe.tables.frame import Estimate, estimate_rows, missing_rows, tidy
from mixtral_probe.tables.jackknifed import Blocks, estimate_of, without_interval
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
CONTEXT = {
    "mutual_information_bits": "bits the variable tells about the expert; null: chance alone, experts shuffled",
    "mutual_information_bits_corrected": "the same less what chance alone shows, bits; null 0, nothing to tell",
}
KEYS = ("layer", "group", "variable", "min_count")
_SHUFFLES = 3
_WORDS = {
    "token": "token routed; null: chance alone, experts shuffled among all tokens",
    "previous token": "token before; null: chance alone, experts shuffled among all tokens",
    "previous token|token": "token before, among tokens of one type; null: chance alone, experts shuffled in each type",
    "next token": "token that follows; null: chance alone, experts shuffled among all tokens",
    "predicted token": "token the model expects next; null: chance alone, experts shuffled among all tokens",
}
_RARE = "no interval: most types are too rare for one to hold"
_NONE = "no such tokens, or their ids were not recorded"


class _Told(NamedTuple):
    """A variable that may tell something about the expert, among tokens that are told apart already."""

    variable: str
    at: Places
    """[n] where the tokens that have it stand in the trace."""
    value: Places
    """[n] its value for each of them."""
    stratum: Places
    """[V] what each value is told apart from within: the type of the token, or 0."""


def context_information(trace: Trace, *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """What a token, those beside it and the one the model expects next tell about the token's expert.

    Columns: layer, group, variable, min_count, metric, value, low, high, null, n, scope. Each of a token's K experts
    counts 1/K. What the token before tells, alone and beyond the token itself, and the token are about tokens with a
    counted token before them. The null is what chance alone shows: the mean of three shuffles of the experts. Where
    there is much to tell, fewer cells are met and chance adds less, so the corrected value is too low rather than too
    high; the bias of `mutual_information`, made from the cells met, errs to the other side.

    Most types are so rare that no interval over documents would hold. The rows with a `min_count` above 1 are about
    types with five choices for each expert (`metrics.enough_tokens`); theirs does, and it is corrected for bias.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: no such label.
    """
    names, group = groups_of(trace, by)
    counted = counted_rows(trace, include_special)
    words = "one layer; " + ("all tokens" if include_special else "special tokens out")
    least, parts = metrics.enough_tokens(trace.num_experts, trace.num_experts_per_tok), []
    document = trace.tokens["document"].to_numpy()
    for variable, (at, value, within) in _variables(trace, counted).items():
        own, about = group[document[at]], f"{words}; {_WORDS[variable]}"
        for number, name in [*enumerate(names), *([(None, ALL)] if by is not None else [])]:
            held = slice(None) if number is None else own == number
            told, keys = _told(variable, at[held], value[held], within[held]), {"group": name, "variable": variable}
            often = np.bincount(told.value, minlength=1)[told.value] >= least
            parts += _of_tokens(trace, told, keys | {"min_count": 1}, about)
            parts += _of_tokens(trace, _kept(told, often), keys | {"min_count": least}, about)
    return tidy(parts, KEYS)


def _variables(trace: Trace, counted: NDArray[np.bool_]) -> dict[str, tuple[Places, Places, Places]]:
    """[n] where the tokens that have a variable stand, its values, and what they are told apart from within."""
    token, run = trace.tokens["token_id"].to_numpy(np.int64), Chunk.of(trace).runs(counted)
    predicted = trace.tokens["predicted_id"].to_numpy(np.int64, na_value=-1)
    before = np.flatnonzero((run[1:] == run[:-1]) & (token[1:] >= 0))
    both = before[token[before] >= 0]
    expected = np.flatnonzero(counted & (predicted >= 0))
    return {
        "token": (both + 1, token[both + 1], np.zeros_like(both)),
        "previous token": (both + 1, token[both], np.zeros_like(both)),
        "previous token|token": (both + 1, token[both], token[both + 1]),
        "next token": (before, token[before + 1], np.zeros_like(before)),
        "predicted token": (expected, predicted[expected], np.zeros_like(expected)),
    }


def _told(variable: str, at: Places, value: Places, within: Places) -> _Told:
    """The values numbered, apart for each token type they are told apart from within."""
    value, stratum = (np.unique(ids, return_inverse=True)[1] for ids in (value, within))
    kinds = int(value.max(initial=0)) + 1
    pairs, pair = np.unique(stratum * kinds + value, return_inverse=True)
    return _Told(variable, at, pair, pairs // kinds)


def _kept(told: _Told, rows: NDArray[np.bool_]) -> _Told:
    values, value = np.unique(told.value[rows], return_inverse=True)
    return told._replace(at=told.at[rows], value=value, stratum=told.stratum[values])


def _of_tokens(trace: Trace, told: _Told, keys: dict[str, Any], about: str) -> list[pd.DataFrame]:
    """The rows of a variable in all layers, with intervals where each value has enough tokens."""
    blocks, orders, made, least = Blocks.of(trace, told.at), _orders(told), [], keys["min_count"]
    about += f"; types with at least {least} tokens" if least > 1 else f"; {_RARE}"
    for row, layer in enumerate(trace.layers):
        own, ids = keys | {"layer": layer}, np.asarray(trace.expert_ids[row])[told.at]
        if not (ids >= 0).any():
            why = f"no type has {least} tokens" if least > 1 else _NONE
            made += [missing_rows(own, metric, (1,), why) for metric in CONTEXT]
            continue
        null = float(np.mean([_bits(_joint(told, ids[order], trace.num_experts), told.stratum) for order in orders]))
        made += _both(_estimate(ids, told, trace.num_experts, blocks if least > 1 else None), null, ids, own, about)
    return made


def _estimate(ids: NDArray[np.int16], told: _Told, experts: int, blocks: Blocks | None) -> Estimate:
    def bits(joint: NDArray[np.int64]) -> float:
        return _bits(joint, told.stratum)

    def count(tokens: Places) -> NDArray[np.int64]:
        return _joint(told._replace(value=told.value[tokens]), ids[tokens], experts)

    if blocks is None:
        return without_interval(bits(_joint(told, ids, experts)))
    return estimate_of(bits, count, blocks, (0.0, float(np.log2(experts))))


def _both(found: Estimate, null: float, ids: NDArray[np.int16], keys: dict[str, Any], about: str) -> list[pd.DataFrame]:
    less, n = replace(found, value=found.value - null), (ids[:, 0] >= 0).sum()
    return [
        estimate_rows(keys, metric, own, chance, n, about)
        for metric, own, chance in zip(CONTEXT, (found, less), (null, 0.0), strict=True)
    ]


def _bits(joint: NDArray[np.int64], stratum: Places) -> float:
    """Bits the rows of [V, E] tell about the expert beyond their strata [V]."""
    within = np.zeros((int(stratum.max(initial=0)) + 1, joint.shape[1]), np.int64)
    np.add.at(within, stratum, joint)
    return float(metrics.mutual_information_bits(joint) - metrics.mutual_information_bits(within))


def _orders(told: _Told) -> list[Places]:
    """Three times [n] which token gives each one its experts, shuffled within each stratum; always the same."""
    strata = told.stratum[told.value]
    generator, order = np.random.default_rng(0), np.argsort(strata, kind="stable")
    drawn = []
    for _ in range(_SHUFFLES):
        shuffled = np.empty_like(order)
        # A fraction added to whole numbers: one sort shuffles every stratum.
        shuffled[order] = np.argsort(strata + generator.random(len(strata)))
        drawn.append(shuffled)
    return drawn


def _joint(told: _Told, ids: NDArray[np.int16], experts: int) -> NDArray[np.int64]:
    """[V, E] how often each value met each expert."""
    cell = (told.value[:, None] * experts + ids)[ids >= 0]
    return np.bincount(cell, minlength=len(told.stratum) * experts).reshape(-1, experts)
