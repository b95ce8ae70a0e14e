"""Which experts each token type went to: sparse counts per group, in two halves of the documents, for three targets.

A half is a bit of the hash of a document's id, so that what is found in one half can be tested in the other and merging
in any order keeps documents where they were. Memory grows with the token types met in each group, not with tokens:
at most 3 targets x G groups x 2 halves x vocabulary x L x E integers of 8 bytes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats.structure import runs
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
TARGETS = ("input", "predicted", "next")
"""The token routed, the most likely next token as the model says it, and the next token that is there."""
_TOKEN_BITS, _GROUP_BITS = 32, 24


@dataclass(frozen=True)
class Affinity:
    """Token x expert counts; R rows, one for each target, group, half and token type met."""

    keys: Integers
    """[R] ascending: target, group, half and token id packed into one number; see `pack`."""
    counts: Integers
    """[L, R, E] how often each expert was chosen at any rank."""
    pieces: dict[int, str]
    """The text of each token type met, where the trace had it; what UTF-8 cannot hold is spelled out."""

    def select(self, target: str, group: int | None = None) -> tuple[Integers, Integers]:
        """Token ids [V] ascending, and counts [L, 2, V, E] in each half; all groups together where none is named.

        Args:
            target: one of `TARGETS`.
            group: number of the group, or None.
        """
        targets, groups, half, token = unpack(self.keys)
        rows = np.flatnonzero((targets == TARGETS.index(target)) & ((group is None) | (groups == group)))
        types, place = np.unique(token[rows], return_inverse=True)
        layers, _, experts = self.counts.shape
        counts = np.zeros((layers, 2, len(types), experts), np.int64)
        cells: Any = (slice(None), half[rows], place)
        np.add.at(counts, cells, self.counts[:, rows])
        return types, counts

    def regrouped(self, group: NDArray[np.intp]) -> "Affinity":
        """The same counts with group g called group[g]; groups that get one name are added up."""
        target, old, half, token = unpack(self.keys)
        return _gathered(pack(target, group[old], half, token), self.counts, self.pieces)

    def merge(self, other: "Affinity") -> "Affinity":
        """Both counts together. Where two texts are known for a token id the first in order is kept."""
        pieces = {
            token: min(text for text in (self.pieces.get(token), other.pieces.get(token)) if text is not None)
            for token in sorted({*self.pieces, *other.pieces})
        }
        counts = np.concatenate([self.counts, other.counts], axis=1)
        return _gathered(np.concatenate([self.keys, other.keys]), counts, pieces)


def pack(target: Any, group: Any, half: Any, token: Any) -> Integers:
    """[...] one number that sorts by target, group, half, token id."""
    whole = [np.asarray(part, np.int64) for part in (target, group, half, token)]
    return (((whole[0] << _GROUP_BITS | whole[1]) << 1 | whole[2]) << _TOKEN_BITS) | whole[3]


def unpack(keys: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """[...] target, group, half and token id of each key."""
    upper = keys >> _TOKEN_BITS
    target, group = upper >> (_GROUP_BITS + 1), (upper >> 1) & ((1 << _GROUP_BITS) - 1)
    return target, group, upper & 1, keys & ((1 << _TOKEN_BITS) - 1)


def count_affinity(
    trace: Trace, group: NDArray[np.intp], keys: NDArray[np.uint64], counted: NDArray[np.bool_]
) -> Affinity:
    """The counts of a trace, layer by layer; a target whose ids are missing has no rows.

    Args:
        trace: the trace.
        group: [documents] which group each document belongs to.
        keys: [documents] hashes of the documents' ids.
        counted: [T] the tokens that count.
    """
    document = trace.tokens["document"].to_numpy()
    half = (keys >> np.uint64(63)).astype(np.int64)
    parts = []
    for number, ids in enumerate(_targets(trace, counted)):
        rows = np.flatnonzero(counted & (ids >= 0))
        own = document[rows]
        types, place = np.unique(pack(number, group[own], half[own], ids[rows]), return_inverse=True)
        parts.append((types, _tally(trace, rows, place, len(types))))
    counts = np.concatenate([counts for _, counts in parts], axis=1)
    return Affinity(np.concatenate([types for types, _ in parts]), counts, _texts(trace, counted))


def _targets(trace: Trace, counted: NDArray[np.bool_]) -> tuple[Integers, Integers, Integers]:
    """[T] the token id of each of `TARGETS`; -1 where there is none."""
    own = trace.tokens["token_id"].to_numpy(np.int64)
    predicted = trace.tokens["predicted_id"].to_numpy(np.int64, na_value=-1)
    run, following = runs(trace.tokens, counted), np.full_like(own, -1)
    following[:-1] = np.where(run[:-1] == run[1:], own[1:], -1)
    return own, predicted, following


def _tally(trace: Trace, rows: NDArray[np.intp], place: NDArray[np.intp], types: int) -> Integers:
    """[L, types, E] how often the tokens `rows` of each type chose each expert."""
    experts = trace.num_experts
    counts = np.zeros((trace.num_layers, types, experts), np.int64)
    for layer, total in enumerate(counts):
        ids = np.asarray(trace.expert_ids[layer])[rows]
        cell = (place[:, None] * experts + ids)[ids >= 0]
        total += np.bincount(cell, minlength=types * experts).reshape(types, experts)
    return counts


def _texts(trace: Trace, counted: NDArray[np.bool_]) -> dict[int, str]:
    known = trace.tokens.loc[counted & (trace.tokens["token_id"].to_numpy() >= 0), ["token_id", "piece"]]
    texts: dict[int, str] = {}
    for token, text in known.drop_duplicates().dropna().itertuples(index=False, name=None):
        spelled = str(text).encode("utf-8", "backslashreplace").decode()
        texts[int(token)] = min(spelled, texts.get(int(token), spelled))
    return dict(sorted(texts.items()))


def _gathered(keys: Integers, counts: Integers, pieces: dict[int, str]) -> Affinity:
    """Rows in the order of their keys; rows of one key added up."""
    unique, place = np.unique(keys, return_inverse=True)
    total = np.zeros((counts.shape[0], len(unique), counts.shape[2]), np.int64)
    cells: Any = (slice(None), place)
    np.add.at(total, cells, counts)
    return Affinity(unique, total, pieces)
