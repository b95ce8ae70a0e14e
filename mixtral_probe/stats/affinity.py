"""Which experts each token type went to: sparse counts per group, in 16 folds of the documents, for three targets.

A fold is four bits of the hash of a document's id, so that what is found in some folds can be tested in others and
merging in any order keeps every document in its fold. Memory grows with the token types in each group, not with
tokens: a type has a row in the folds where it occurs, so at most 3 targets x G groups x 16 folds x vocabulary x L x E
counts of one byte, and more for those above 255. Files of version 4 know only the first of the bits; what is merged
with one of them knows only that bit too, so that no document is in two folds.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.stats.byte_counts import ByteCounts, sum_rows
from mixtral_probe.stats.chunks import Chunk
from mixtral_probe.stats.file_checks import check_affinity, checked_tokens
from mixtral_probe.stats.storage import narrow
from mixtral_probe.stats.type_counts import FOLDS, TypeCounts
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
TARGETS = ("input", "predicted", "next")
"""The token routed, the most likely next token by the model, and the next token in the text."""
HALF = FOLDS // 2
"""The bit of a fold's number that is the half of the documents."""
_STORED = "affinity."
_TOKEN_BITS, _FOLD_BITS, _GROUP_BITS = 32, 4, 24


@dataclass(frozen=True)
class Affinity:
    """Token x expert counts; R rows, one for each target, group, fold and token type that occurs."""

    keys: Integers
    """[R] ascending: target, group, fold and token id packed into one number; see `pack`."""
    byte_counts: ByteCounts
    """[R, L, E] how often each expert was chosen at any rank. Where some token chose fewer than K, [R, L, E + 1]: the
    last column has the choices that were not made, so that every token is in a row K times."""
    shape: tuple[int, int]
    """E and K."""
    pieces: dict[int, str]
    """The text of each token type, where the trace had it; characters that UTF-8 cannot encode are escaped."""
    halved: bool = False
    """Whether documents are known by half only, as in files of version 4: the halves are folds 0 and 8."""

    def select(self, target: str, group: int | None = None) -> TypeCounts:
        """Return the counts of one target, of one group or of all together.

        Args:
            target: one of `TARGETS`.
            group: number of the group, or None.
        """
        targets, groups, fold, token = unpack(self.keys)
        rows = np.flatnonzero((targets == TARGETS.index(target)) & ((group is None) | (groups == group)))
        ids, place = np.unique(token[rows], return_inverse=True)
        cell, at = np.unique(pack(0, 0, fold[rows], place), return_inverse=True)
        number = groups[rows]
        parts = [(at[number == name], self.byte_counts.take(rows[number == name])) for name in np.unique(number)]
        counts = sum_rows(len(cell), parts) if parts else self.byte_counts.take(rows)
        return TypeCounts(ids, *unpack(cell)[2:], counts, self.shape, self.halved)

    @property
    def counts(self) -> Integers:
        """[L, R, E] how often each expert was chosen at any rank, unpacked: eight times as large."""
        return np.moveaxis(self.byte_counts.unpacked()[..., : self.shape[0]], 1, 0)

    def regrouped(self, group: NDArray[np.intp]) -> "Affinity":
        """Rename group g to group[g]; groups with one new name are added up."""
        if np.array_equal(group, np.arange(len(group))):
            return self
        target, old, fold, token = unpack(self.keys)
        return self._renamed(pack(target, group[old], fold, token), old)

    def in_halves(self) -> "Affinity":
        """Return the same counts with documents known by half only."""
        if self.halved:
            return self
        target, group, fold, token = unpack(self.keys)
        return replace(self._renamed(pack(target, group, fold & HALF, token), fold), halved=True)

    def _renamed(self, renamed: Integers, part: Integers) -> "Affinity":
        """Return the counts with other keys [R], which are all different within each part [R]; equal ones are added."""
        keys = _distinct(renamed)
        parts = [np.flatnonzero(part == number) for number in np.unique(part)]
        placed = [(np.searchsorted(keys, renamed[rows]), self.byte_counts.take(rows)) for rows in parts]
        return replace(self, keys=keys, byte_counts=sum_rows(len(keys), placed) if placed else self.byte_counts)

    def merge(self, other: "Affinity") -> "Affinity":
        """Add both counts, in halves where one has these. Of two texts of a token id the first in order is kept."""
        halved = self.halved or other.halved
        both = [part.in_halves() if halved else part for part in (self, other)]
        keys = _distinct(*(part.keys for part in both))
        columns = max(part.byte_counts.low.shape[-1] for part in both)
        parts = [(np.searchsorted(keys, part.keys), part.byte_counts.widened(columns)) for part in both]
        return Affinity(keys, sum_rows(len(keys), parts), self.shape, _merged_texts(self.pieces, other.pieces), halved)

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return names and arrays [R, ...] for a file."""
        low, rows, high = self.byte_counts.low, self.byte_counts.rows, self.byte_counts.high
        integers = {"keys": self.keys, "rows_above_255": rows, "high": high}
        arrays = {"low": low} | {name: narrow(array) for name, array in integers.items()}
        return {"pieces": self.pieces, "halved": self.halved}, {f"{_STORED}{name}": x for name, x in arrays.items()}

    @classmethod
    def restored(cls, names: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> "Affinity":
        """Take what `stored` returned out of the names and arrays of a file, of version 4 too."""
        keys = arrays.pop(f"{_STORED}keys").astype(np.int64)
        shape = (names["num_experts"], names["num_experts_per_tok"])
        pieces = checked_tokens(names.pop("pieces"))
        if (halved := names.pop("halved", None)) is None:
            counts = ByteCounts.of(np.moveaxis(arrays.pop(f"{_STORED}counts"), 1, 0))
            check_affinity(counts.low, counts.high, counts.rows, keys)
            return cls(keys_of_halves(keys), counts, shape, pieces, halved=True)
        low, rows, high = (arrays.pop(f"{_STORED}{name}") for name in ("low", "rows_above_255", "high"))
        check_affinity(low, high, rows, keys)
        return cls(keys, ByteCounts(low, rows.astype(np.intp), high.astype(np.int64)), shape, pieces, halved)


def _distinct(*parts: Integers) -> Integers:
    """[R] the keys of all parts, ascending. Sorted runs are merged fast, where numpy.unique hashes into few buckets."""
    keys = np.sort(np.concatenate(parts), kind="stable")
    return keys[np.diff(keys, prepend=-1) != 0]


def _merged_texts(mine: dict[int, str], theirs: dict[int, str]) -> dict[int, str]:
    common = {token: min(mine[token], theirs[token]) for token in mine.keys() & theirs.keys()}
    return dict(sorted((mine | theirs | common).items()))


def pack(target: Any, group: Any, fold: Any, token: Any) -> Integers:
    """[...] one number that sorts by target, group, fold, token id."""
    whole = [np.asarray(part, np.int64) for part in (target, group, fold, token)]
    return (((whole[0] << _GROUP_BITS | whole[1]) << _FOLD_BITS | whole[2]) << _TOKEN_BITS) | whole[3]


def unpack(keys: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """[...] target, group, fold and token id of each key."""
    upper = keys >> _TOKEN_BITS
    target, group = upper >> (_GROUP_BITS + _FOLD_BITS), (upper >> _FOLD_BITS) & ((1 << _GROUP_BITS) - 1)
    return target, group, upper & (FOLDS - 1), keys & ((1 << _TOKEN_BITS) - 1)


def keys_of_halves(keys: Integers) -> Integers:
    """[R] keys of a file of version 4, where one bit was the half of the documents, as `pack` makes them."""
    upper = keys >> _TOKEN_BITS
    return pack(0, upper >> 1, (upper & 1) * HALF, keys & ((1 << _TOKEN_BITS) - 1))


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
        self._cell = pack(0, group, (keys >> np.uint64(64 - _FOLD_BITS)).astype(np.int64), 0)  # [documents]
        self._counted = counted
        none = ByteCounts.of(np.zeros((0, trace.num_layers, trace.num_experts), np.int64))
        self.affinity = Affinity(np.zeros(0, np.int64), none, (trace.num_experts, trace.num_experts_per_tok), {})

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
            counts = _tally(expert_ids, rows, place, len(types), self.affinity.shape[0])
            parts.append((np.arange(size, size + len(types)), counts))
            keys.append(types)
            size += len(types)
        texts = _texts(chunk.trace.tokens[["token_id", "piece"]].iloc[chunk.span], self._counted[chunk.span])
        columns = max(counts.shape[-1] for _, counts in parts)
        packed = [(at, ByteCounts.of(counts).widened(columns)) for at, counts in parts]
        return Affinity(np.concatenate(keys), sum_rows(size, packed), self.affinity.shape, texts)

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
    """[types, L, E or E + 1] how often the tokens of each type chose each expert, as in `Affinity.byte_counts`.

    Args:
        expert_ids: [L, n, K] experts; a token without any in a layer does not count there.
        rows: [m] tokens.
        place: [m] the type of each.
        types: how many there are.
        experts: E.
    """
    fewer = (expert_ids[:, rows, 0] >= 0) & (expert_ids[:, rows, -1] < 0)
    columns = experts + bool(fewer.any())
    counts = np.zeros((types, len(expert_ids), columns), np.uint32)
    for layer, ids in enumerate(expert_ids):
        chosen = ids[rows]
        if columns > experts:
            chosen = np.where(chosen < 0, np.where(chosen[:, :1] < 0, -1, experts), chosen)
        cell = (place[:, None] * columns + chosen)[chosen >= 0]
        counts[:, layer] = np.bincount(cell, minlength=types * columns).reshape(types, columns)
    return counts


def _texts(tokens: pd.DataFrame, counted: NDArray[np.bool_]) -> dict[int, str]:
    """Return the text of each token type among the counted tokens, the first in order where there are several."""
    texts: dict[int, str] = {}
    known = tokens[counted & (tokens["token_id"].to_numpy() >= 0)]
    for token, text in known.drop_duplicates().dropna().itertuples(index=False, name=None):
        spelled = str(text).encode("utf-8", "backslashreplace").decode()
        texts[int(token)] = min(spelled, texts.get(int(token), spelled))
    return texts
