"""What the token before tells about the expert, held against shuffles: `context_information`."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, counted_rows, groups_of
from mixtral_probe.stats.structure import runs
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
CONTEXT = {
    "mutual_information_bits": "bits the variable tells about the expert; null: chance alone, experts shuffled",
    "mutual_information_bits_corrected": "the same less what chance alone shows, bits; null 0, nothing to tell",
}
KEYS = ("layer", "group", "variable")
_SHUFFLES = 3
_WORDS = {
    "token": "token routed; null: chance alone, experts shuffled among all tokens",
    "previous token": "token before; null: chance alone, experts shuffled among all tokens",
    "previous token|token": "token before, among tokens of one type; null: chance alone, experts shuffled in each type",
}


def context_information(trace: Trace, *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """What the token before tells about the chosen expert, alone and beyond the token routed.

    Columns: layer, group, variable, metric, value, low, high, null, n, scope. Each of a token's K experts counts 1/K.
    Only tokens with a counted token before them are looked at. The null is what chance alone shows: the mean of
    three shuffles of the experts. Where there is much to tell, fewer cells are met and chance adds less, so the
    corrected value is too low rather than too high; the bias of `mutual_information`, made from the cells met, errs to
    the other side.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: no such label.
    """
    names, group = groups_of(trace, by)
    counted = counted_rows(trace, include_special)
    token, run = trace.tokens["token_id"].to_numpy(np.int64), runs(trace.tokens, counted)
    at = 1 + np.flatnonzero((run[1:] == run[:-1]) & (token[1:] >= 0) & (token[:-1] >= 0))
    own = group[trace.tokens["document"].to_numpy()[at]]
    words = "all tokens" if include_special else "special tokens out"
    parts = []
    for number, name in [*enumerate(names), *([(None, ALL)] if by is not None else [])]:
        held = at if number is None else at[own == number]
        types = [np.unique(token[place], return_inverse=True)[1] for place in (held, held - 1)]
        parts += _of_group(trace, name, held, (types[0], types[1]), words)
    return tidy(parts, KEYS)


def _of_group(trace: Trace, name: str, at: Places, types: tuple[Places, Places], words: str) -> list[pd.DataFrame]:
    here, before = types
    pair = np.unique(here * (before.max(initial=0) + 1) + before, return_inverse=True)[1]
    alike = np.zeros_like(here)
    made = []
    for row, layer in enumerate(trace.meta.moe_layers or range(trace.num_layers)):
        ids = np.asarray(trace.expert_ids[row])[at].astype(np.intp)
        keys: dict[str, Any] = {"layer": layer, "group": name}
        n = int((ids[:, 0] >= 0).sum()) if ids.size else 0
        for variable, strata in (("token", alike), ("previous token", alike), ("previous token|token", here)):
            own = keys | {"variable": variable}
            if not n:
                why = "no token with another before it, or token ids were not recorded"
                made += [missing_rows(own, metric, (1,), why) for metric in CONTEXT]
                continue
            told = {"token": here, "previous token": before, "previous token|token": pair}[variable]
            bits, null = _information(ids, told, strata, trace.num_experts)
            scope = f"one layer; {words}; {_WORDS[variable]}; no interval: most tokens stand in few documents"
            for metric, value, chance in zip(CONTEXT, (bits, bits - null), (null, 0.0), strict=True):
                made.append(rows(own, metric, np.array([value]), null=chance, n=n, scope=scope))
    return made


def _information(ids: Places, told: Places, strata: Places, experts: int) -> tuple[float, float]:
    """Bits of `told` about the experts within the strata, and the mean of that when experts are shuffled in each."""

    def bits(chosen: Places) -> float:
        within = metrics.mutual_information_bits(_joint(strata, chosen, experts))
        return float(metrics.mutual_information_bits(_joint(told, chosen, experts)) - within)

    generator, order = np.random.default_rng(0), np.argsort(strata, kind="stable")
    drawn = []
    for _ in range(_SHUFFLES):
        shuffled = np.empty_like(ids)
        shuffled[order] = ids[np.lexsort((generator.random(len(ids)), strata))]
        drawn.append(bits(shuffled))
    return bits(ids), float(np.mean(drawn))


def _joint(types: Places, ids: Places, experts: int) -> NDArray[np.int64]:
    """[V, E] how often each type met each expert."""
    size = int(types.max(initial=0)) + 1
    cell = (types[:, None] * experts + ids)[ids >= 0]
    return np.bincount(cell, minlength=size * experts).reshape(size, experts)
