"""Vocabulary specialization tested on other documents than those that the experts of the types were taken from.

Documents are in 16 folds, and a split puts 8 of them on either side. R rows of counts, one for each fold and token
type that occurs in it; S splits, F folds, V types.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio
from mixtral_probe.metrics.specialization.vocabulary import Weighting

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Mask = NDArray[np.bool_]
_FOLDS = 16
SPLITS: Mask = np.array([[(fold & bits).bit_count() % 2 for fold in range(_FOLDS)] for bits in range(1, _FOLDS)], bool)
"""[S, F] the side of each fold in 15 splits, the rows of a Hadamard matrix: any two folds are apart in 8 of them."""
_BLOCK_ELEMENTS = 2**16


class CrossValidation(NamedTuple):
    """How much of types' tokens chose the experts which lead in other documents; M minimum counts, W weightings."""

    value: Floats
    """[M, W, L] in [0, 1]; NaN where no type is on both sides of a split."""
    null: Floats
    """[M, W, L] the share of all tokens that chose these experts: the value of a router that ignores the type."""
    deleted: Floats
    """[M, W, L, F] the value with one fold left out."""
    tokens: Floats
    """[M, L, F] tokens of the types that count, by fold."""
    types: NDArray[np.int64]
    """[M, L] how many types count: met often enough, and in two folds."""


def vocabulary_specialization_crossval(
    counts: NDArray[Any],
    n: ArrayLike,
    fold: ArrayLike,
    place: ArrayLike,
    *,
    min_counts: Sequence[int] = (1,),
    weightings: Sequence[Weighting] = ("type",),
) -> CrossValidation:
    """Return the share of each type's tokens that chose the expert which leads on the other side of a split.

    Each side is tested with the leaders of the other, in each of `SPLITS`; the mean is over types, sides and splits
    together. A type counts in the splits that have it on both sides. Experts that tie for the lead count equally, so
    that the order of experts does not matter. Where a fold is left out the same splits are made of the others: leaders
    are taken, and types counted, without its tokens.

    Args:
        counts: [L, R, E] how often each expert was chosen, for each fold and type that occurs in it.
        n: [L, R] tokens of that type and fold.
        fold: [R] below 16.
        place: [R] the number of the type.
        min_counts: least numbers of tokens of a type, all folds together.
        weightings: every type equally, or each by its tokens on the tested side.
    """
    size, fold, place = np.asarray(n, np.float64), np.asarray(fold, np.intp), np.asarray(place, np.intp)
    usual, means = _usual(counts, size, fold), _Means(np.array(min_counts), tuple(weightings))
    per_mean, layers = (len(min_counts), len(weightings)), len(counts)
    whole, change = np.zeros((3, *per_mean, layers)), np.zeros((2, *per_mean, layers, _FOLDS))
    tokens, types = np.zeros((len(min_counts), layers, _FOLDS)), np.zeros((len(min_counts), layers), np.int64)
    for rows, starts in _blocks(place, max(1, _BLOCK_ELEMENTS // max(1, counts[:, :1].size))):
        block = _Block.of(counts[:, rows], size[:, rows], starts)
        tests = [block.tested(side, load, means) for side, load in zip(SPLITS[:, fold[rows]], usual, strict=True)]
        in_fold = np.eye(_FOLDS)[fold[rows]]  # [R, F]
        whole += sum(sums for sums, _ in tests)
        change += sum(changes for _, changes in tests) @ in_fold
        counted = block.counted(means)
        tokens += (counted[..., block.type] * block.n) @ in_fold
        types += counted.sum(-1)
    deleted = whole[[0, 2], ..., None] + change
    return CrossValidation(ratio(whole[0], whole[2]), ratio(whole[1], whole[2]), ratio(*deleted), tokens, types)


def _usual(counts: NDArray[Any], n: Floats, fold: Places) -> Floats:
    """[S, E, L, 2, 1] the share of tokens on either side that chose each expert; 0 on an empty side."""
    sides = np.stack([~SPLITS, SPLITS], 1)
    load = np.stack([counts[:, fold == number].sum(1, dtype=np.int64) for number in range(_FOLDS)])  # [F, L, E]
    tokens = np.stack([n[:, fold == number].sum(1) for number in range(_FOLDS)])  # [F, L]
    by_side, tokens_by_side = np.einsum("sdf,fle->seld", sides, load), np.einsum("sdf,fl->sld", sides, tokens)
    return np.nan_to_num(ratio(by_side, tokens_by_side[:, None]))[..., None]


def _blocks(place: Places, size: int) -> Iterator[tuple[Places, Places]]:
    """Yield rows of types that have several, in order of type and about `size` of them, and where each type starts."""
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    lengths = np.diff(starts, append=len(place))
    order, lengths = order[np.repeat(lengths > 1, lengths)], lengths[lengths > 1]
    starts = np.cumsum(lengths) - lengths
    cuts = np.flatnonzero(np.diff(starts // size, prepend=-1))
    for first, last in zip(cuts, np.append(cuts, len(starts))[1:], strict=True):
        end = starts[last] if last < len(starts) else len(order)
        yield order[starts[first] : end], starts[first:last] - starts[first]


class _Means(NamedTuple):
    """The ways of averaging over types."""

    min_counts: NDArray[np.int64]
    """[M]"""
    weightings: tuple[Weighting, ...]

    def summands(self, hits: Floats, n: Floats) -> Floats:
        """[N + 1, M, W, L, n] what types add to the numerators, and to the denominator, both sides together.

        Args:
            hits: [N, L, 2, n] tokens on the tested side that chose an expert.
            n: [L, 2, n] all tokens of the type there.
        """
        counted = (n > 0).all(1) & (n.sum(1) >= self.min_counts[:, None, None])  # [M, L, n]
        by_token = np.concatenate([hits, n[None]])
        by_type = np.divide(by_token, n, out=np.zeros(by_token.shape), where=n > 0)
        either = {"token": by_token.sum(2), "type": by_type.sum(2)}
        return np.stack([either[weighting] for weighting in self.weightings], 1)[:, None] * counted[:, None]


class _Block(NamedTuple):
    """The counts of some types."""

    counts: Floats
    """[E + 1, L, R] in order of type, the last the tokens; experts first, since sums over few of them are fast that
    way."""
    starts: Places
    """[V] the first row of each type."""
    type: Places
    """[R] the type of each row."""
    total: Floats
    """[E + 1, L, V]"""
    total_of_rows: Floats
    """[E + 1, L, R] that of each row's type."""

    @classmethod
    def of(cls, counts: NDArray[Any], n: Floats, starts: Places) -> "_Block":
        """Return the counts [L, R, E] and tokens [L, R] of the types that start at some rows."""
        type_ = np.repeat(np.arange(len(starts)), np.diff(starts, append=counts.shape[1]))
        by_expert = np.concatenate([np.asarray(counts, np.float64).transpose(2, 0, 1), n[None]])
        total = np.add.reduceat(by_expert, starts, axis=-1)
        return cls(by_expert, starts, type_, total, np.take(total, type_, -1))

    @property
    def n(self) -> Floats:
        """[L, R] tokens of each row."""
        return self.counts[-1]

    def counted(self, means: _Means) -> Mask:
        """[M, L, V] the types that are met often enough, and in two folds."""
        folds, tokens = np.add.reduceat(np.stack([self.n > 0, self.n]), self.starts, axis=-1)
        return (folds > 1) & (tokens >= means.min_counts[:, None, None])

    def tested(self, side: Mask, usual: Floats, means: _Means) -> tuple[Floats, Floats]:
        """Test each side with the leaders of the other.

        Args:
            side: [R] the side of each row.
            usual: [E, L, 2, 1] the share of tokens on either side that chose each expert.
            means: how types are averaged.

        Returns:
            [3, M, W, L] sums over types for value, null and denominator, and [2, M, W, L, R] what is added to those for
            value and denominator where a row is left out.
        """
        second = np.add.reduceat(np.where(side, self.counts, 0), self.starts, axis=-1)
        sides = np.stack([self.total - second, second], -2)  # [E + 1, L, 2, V]
        leaders, n = _leaders(sides[:-1]), sides[-1]
        hits, usually = (_dot(leaders[..., ::-1, :], tested) for tested in (sides[:-1], usual))
        summands = means.summands(np.stack([hits, usually * n]), n)
        own = self._at(sides, side)
        rest, other = own - self.counts, self.total_of_rows - own
        hits = np.stack([_dot(self._at(leaders, ~side), rest[:-1]), _dot(_leaders(rest[:-1]), other[:-1])], 1)
        without = means.summands(hits[None], np.stack([rest[-1], other[-1]], 1))
        return summands.sum(-1), without - np.take(summands[[0, 2]], self.type, -1)

    def _at(self, sides: Floats, side: Mask) -> Floats:
        """[..., L, R] of each row's type, what is on a side [R]; sides [..., L, 2, V]."""
        types = len(self.starts)
        return np.take(sides.reshape(*sides.shape[:2], 2 * types), side * types + self.type, -1)


def _leaders(counts: Floats) -> Floats:
    """[E, ...] 1 for the expert with the most choices, equal parts for those that tie."""
    tied = (counts == counts.max(0)).astype(np.float64)
    tied /= tied.sum(0)
    return tied


def _dot(leaders: Floats, tested: Floats) -> Floats:
    """[...] the sum over experts [E, ...]."""
    return np.einsum("e...,e...->...", leaders, tested)
