"""Which experts each token type went to: sparse counts per group, in two halves of the documents, for three targets.

A half is a bit of the hash of a document's id, so that what is found in one half can be tested in the other and merging
in any order keeps documents where they were. Memory grows with the token types met in each group, not with tokens:
at most 3 targets x G groups x 2 halves x vocabulary x L x E integers of 8 bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats.structure import runs
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
TARGETS = ("input", "predicted", "next")
"""The token routed, the most likely next token as the model says it, and the next token that is there."""
_TOKEN_BITS, _GROUP_BITS = 32, 24
_PIECE_TOKENS = 2**17


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
        if np.array_equal(group, np.arange(len(group))):
            return self
        target, old, half, token = unpack(self.keys)
        return _gathered(pack(target, group[old], half, token), self.counts, self.pieces)

    def merge(self, other: "Affinity") -> "Affinity":
        """Both counts together. Where two texts are known for a token id the first in order is kept."""
        pieces = {
            token: min(text for text in (self.pieces.get(token), other.pieces.get(token)) if text is not None)
            for token in sorted({*self.pieces, *other.pieces})
        }
        small, large = sorted((self, other), key=lambda part: len(part.keys))
        keys = np.union1d(self.keys, other.keys)
        if len(keys) == len(large.keys):
            counts = large.counts.copy()
        else:
            counts = np.zeros((large.counts.shape[0], len(keys), large.counts.shape[2]), np.int64)
            counts[:, np.searchsorted(keys, large.keys)] = large.counts
        counts[:, np.searchsorted(keys, small.keys)] += small.counts  # each key stands there once
        return Affinity(keys, counts, pieces)


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
    """The counts of a trace, a piece of tokens at a time; a target whose ids are missing has no rows.

    Args:
        trace: the trace.
        group: [documents] which group each document belongs to.
        keys: [documents] hashes of the documents' ids.
        counted: [T] the tokens that count.
    """
    half = (keys >> np.uint64(63)).astype(np.int64)
    parts = [_count_target(trace, number, group, half, counted) for number in range(len(TARGETS))]
    counts = np.concatenate([counts for _, counts in parts], axis=1)
    return Affinity(np.concatenate([types for types, _ in parts]), counts, _texts(trace, counted))


def _count_target(
    trace: Trace, number: int, group: NDArray[np.intp], half: Integers, counted: NDArray[np.bool_]
) -> tuple[Integers, Integers]:
    """Keys [R] and counts [L, R, E] for one target: once through the tokens for the keys met, once for the counts."""
    met = [np.unique(part.keys) for part in _keyed(trace, number, group, half, counted)]
    types = np.unique(np.concatenate([np.zeros(0, np.int64), *met]))
    counts = np.zeros((trace.num_layers, len(types), trace.num_experts), np.int64)
    for part in _keyed(trace, number, group, half, counted):
        own, place = np.unique(part.keys, return_inverse=True)
        counts[:, np.searchsorted(types, own)] += _tally(trace, part, place, len(own))
    return types, counts


class _Keyed(NamedTuple):
    """The tokens of a piece of a trace that have a target, and the key of each."""

    own: slice
    """The piece."""
    rows: NDArray[np.intp]
    """[n] within it."""
    keys: Integers
    """[n]"""


def _keyed(
    trace: Trace, number: int, group: NDArray[np.intp], half: Integers, counted: NDArray[np.bool_]
) -> Iterator[_Keyed]:
    for start in range(0, len(trace), _PIECE_TOKENS):
        own = slice(start, start + _PIECE_TOKENS)
        ids, document = _target(trace, number, own, counted), trace.tokens["document"].to_numpy()[own]
        rows = np.flatnonzero(counted[own] & (ids >= 0))
        yield _Keyed(own, rows, pack(number, group[document[rows]], half[document[rows]], ids[rows]))


def _target(trace: Trace, number: int, own: slice, counted: NDArray[np.bool_]) -> Integers:
    """[n] the token id of a target for the rows of a piece; -1 where there is none."""
    reach = slice(own.start, own.stop + 1)
    tokens = trace.tokens.iloc[reach]
    if TARGETS[number] == "predicted":
        return tokens["predicted_id"].to_numpy(np.int64, na_value=-1)[:_PIECE_TOKENS]
    ids = tokens["token_id"].to_numpy(np.int64)
    if TARGETS[number] == "input":
        return ids[:_PIECE_TOKENS]
    run = runs(tokens, counted[reach])
    following = np.where(run[:-1] == run[1:], ids[1:], -1)
    return np.append(following, -1)[:_PIECE_TOKENS]


def _tally(trace: Trace, part: _Keyed, place: NDArray[np.intp], types: int) -> Integers:
    """[L, types, E] how often the tokens of each type chose each expert."""
    experts = trace.num_experts
    counts = np.zeros((trace.num_layers, types, experts), np.int64)
    for layer, total in enumerate(counts):
        ids = np.asarray(trace.expert_ids[layer, part.own])[part.rows]
        cell = (place[:, None] * experts + ids)[ids >= 0]
        total += np.bincount(cell, minlength=types * experts).reshape(types, experts)
    return counts


def _texts(trace: Trace, counted: NDArray[np.bool_]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for start in range(0, len(trace), _PIECE_TOKENS):
        own = slice(start, start + _PIECE_TOKENS)
        tokens = trace.tokens[["token_id", "piece"]].iloc[own]
        known = tokens[counted[own] & (tokens["token_id"].to_numpy() >= 0)]
        for token, text in known.drop_duplicates().dropna().itertuples(index=False, name=None):
            spelled = str(text).encode("utf-8", "backslashreplace").decode()
            texts[int(token)] = min(spelled, texts.get(int(token), spelled))
    return dict(sorted(texts.items()))


def _gathered(keys: Integers, counts: Integers, pieces: dict[int, str]) -> Affinity:
    """Rows in the order of their keys; rows of one key added up."""
    if not keys.size:
        return Affinity(keys, counts, pieces)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return Affinity(ordered[starts], np.add.reduceat(counts[:, order], starts, axis=1), pieces)
