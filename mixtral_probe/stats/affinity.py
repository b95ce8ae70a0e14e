"""Which experts each token type went to: sparse counts per group, in two halves of the documents, for three targets.

A half is a bit of the hash of a document's id, so that findings in one half can be tested in the other and merging
in any order keeps every document in its half. Memory grows with the token types in each group, not with tokens:
at most 3 targets x G groups x 2 halves x vocabulary x L x E counts of one byte, and more for those above 255.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.stats.byte_counts import ByteCounts, sum_rows
from mixtral_probe.stats.chunks import Chunk
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
TARGETS = ("input", "predicted", "next")
"""The token routed, the most likely next token by the model, and the next token in the text."""
_TOKEN_BITS, _GROUP_BITS = 32, 24


@dataclass(frozen=True)
class Affinity:
    """Token x expert counts; R rows, one for each target, group, half and token type that occurs."""

    keys: Integers
    """[R] ascending: target, group, half and token id packed into one number; see `pack`."""
    byte_counts: ByteCounts
    """[R, L, E] how often each expert was chosen at any rank."""
    pieces: dict[int, str]
    """The text of each token type, where the trace had it; characters that UTF-8 cannot encode are escaped."""

    def select(self, target: str, group: int | None = None) -> tuple[Integers, Integers]:
        """Return token ids [V] ascending, and counts [L, 2, V, E] in each half; of one group, or of all together.

        Args:
            target: one of `TARGETS`.
            group: number of the group, or None.
        """
        targets, groups, half, token = unpack(self.keys)
        selected = (targets == TARGETS.index(target)) & ((group is None) | (groups == group))
        types = np.unique(token[selected])
        layers, experts = self.byte_counts.low.shape[1:]
        counts = np.zeros((2, len(types), layers, experts), np.int64)
        for side, number in product(range(2), np.unique(groups[selected])):
            rows = np.flatnonzero(selected & (half == side) & (groups == number))  # each type occurs once
            counts[side, np.searchsorted(types, token[rows])] += self.byte_counts.take(rows).unpacked()
        # Experts first in memory, since sums over few of them are fast that way.
        return types, np.moveaxis(np.ascontiguousarray(counts.transpose(3, 2, 0, 1)), 0, -1)

    @property
    def counts(self) -> Integers:
        """[L, R, E] how often each expert was chosen at any rank, unpacked: eight times as large."""
        return np.moveaxis(self.byte_counts.unpacked(), 1, 0)

    def regrouped(self, group: NDArray[np.intp]) -> "Affinity":
        """Rename group g to group[g]; groups with one new name are added up."""
        if np.array_equal(group, np.arange(len(group))):
            return self
        target, old, half, token = unpack(self.keys)
        renamed = pack(target, group[old], half, token)
        keys = np.unique(renamed)
        parts = [np.flatnonzero(old == number) for number in np.unique(old)]
        placed = [(np.searchsorted(keys, renamed[rows]), self.byte_counts.take(rows)) for rows in parts]
        return Affinity(keys, sum_rows(len(keys), placed) if placed else self.byte_counts, self.pieces)

    def merge(self, other: "Affinity") -> "Affinity":
        """Add both counts. Where a token id has two texts the first in order is kept."""
        keys = np.union1d(self.keys, other.keys)
        parts = [(np.searchsorted(keys, part.keys), part.byte_counts) for part in (self, other)]
        return Affinity(keys, sum_rows(len(keys), parts), _merged_texts(self.pieces, other.pieces))


def _merged_texts(mine: dict[int, str], theirs: dict[int, str]) -> dict[int, str]:
    common = {token: min(mine[token], theirs[token]) for token in mine.keys() & theirs.keys()}
    return dict(sorted((mine | theirs | common).items()))


def pack(target: Any, group: Any, half: Any, token: Any) -> Integers:
    """[...] one number that sorts by target, group, half, token id."""
    whole = [np.asarray(part, np.int64) for part in (target, group, half, token)]
    return (((whole[0] << _GROUP_BITS | whole[1]) << 1 | whole[2]) << _TOKEN_BITS) | whole[3]


def unpack(keys: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """[...] target, group, half and token id of each key."""
    upper = keys >> _TOKEN_BITS
    target, group = upper >> (_GROUP_BITS + 1), (upper >> 1) & ((1 << _GROUP_BITS) - 1)
    return target, group, upper & 1, keys & ((1 << _TOKEN_BITS) - 1)


class AffinityAccumulator:
    """The counts of a trace; a target whose ids are missing has no rows.

    Args:
        trace: the trace.
        group: [documents] which group each document belongs to.
        keys: [documents] hashes of the documents' ids.
        counted: [T] the tokens that count.
    """

    def __init__(
        self, trace: Trace, group: NDArray[np.intp], keys: NDArray[np.uint64], counted: NDArray[np.bool_]
    ) -> None:
        self._cell = pack(0, group, (keys >> np.uint64(63)).astype(np.int64), 0)  # [documents]
        self._counted = counted
        none = ByteCounts.of(np.zeros((0, trace.num_layers, trace.num_experts), np.int64))
        self.affinity = Affinity(np.zeros(0, np.int64), none, {})

    def update(self, chunk: Chunk) -> None:
        """Add a chunk, in place."""
        self.affinity = self.affinity.merge(self._of_chunk(chunk))

    def _of_chunk(self, chunk: Chunk) -> Affinity:
        cell, expert_ids = self._cell[chunk.document], chunk.ids
        keys, parts, size = [], [], 0
        for number in range(len(TARGETS)):
            ids = self._target(chunk, number)
            rows = np.flatnonzero(self._counted[chunk.span] & (ids >= 0))
            types, place = np.unique(pack(number, 0, 0, ids[rows]) + cell[rows], return_inverse=True)
            counts = _tally(expert_ids, rows, place, len(types), chunk.trace.num_experts)
            parts.append((np.arange(size, size + len(types)), ByteCounts.of(counts)))
            keys.append(types)
            size += len(types)
        texts = _texts(chunk.trace.tokens[["token_id", "piece"]].iloc[chunk.span], self._counted[chunk.span])
        return Affinity(np.concatenate(keys), sum_rows(size, parts), texts)

    def _target(self, chunk: Chunk, number: int) -> Integers:
        """[n] the token id of a target for each token; -1 where it is missing."""
        if TARGETS[number] == "predicted":
            return chunk.trace.tokens["predicted_id"].iloc[chunk.span].to_numpy(np.int64, na_value=-1)
        ids = chunk.column("token_id").astype(np.int64)
        if TARGETS[number] == "input":
            return ids
        beyond = chunk.extended(1)
        run = beyond.runs(self._counted)
        following = np.where(run[:-1] == run[1:], beyond.column("token_id")[1:].astype(np.int64), -1)
        return np.append(following, -1)[: len(ids)]


def _tally(
    expert_ids: NDArray[np.int16], rows: NDArray[np.intp], place: NDArray[np.intp], types: int, experts: int
) -> NDArray[np.uint32]:
    """[types, L, E] how often the tokens of each type chose each expert; expert ids [L, n, K], rows and place [m]."""
    counts = np.zeros((types, len(expert_ids), experts), np.uint32)
    for layer, ids in enumerate(expert_ids):
        chosen = ids[rows]
        cell = (place[:, None] * experts + chosen)[chosen >= 0]
        counts[:, layer] = np.bincount(cell, minlength=types * experts).reshape(types, experts)
    return counts


def _texts(tokens: pd.DataFrame, counted: NDArray[np.bool_]) -> dict[int, str]:
    """Return the text of each token type among the counted tokens, the first in order where there are several."""
    texts: dict[int, str] = {}
    known = tokens[counted & (tokens["token_id"].to_numpy() >= 0)]
    for token, text in known.drop_duplicates().dropna().itertuples(index=False, name=None):
        spelled = str(text).encode("utf-8", "backslashreplace").decode()
        texts[int(token)] = min(spelled, texts.get(int(token), spelled))
    return texts
