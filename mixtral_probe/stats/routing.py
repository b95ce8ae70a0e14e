"""RoutingStats: the mergeable sums of one or many traces."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.notebook_repr import NotebookRepr
from mixtral_probe.selection import select
from mixtral_probe.stats import stats_file
from mixtral_probe.stats.accumulate import SumsAccumulator
from mixtral_probe.stats.affinity import Affinity, AffinityAccumulator
from mixtral_probe.stats.blocks import Blocks, block_positions, document_keys, union_blocks
from mixtral_probe.stats.chunks import accumulate, counted_rows
from mixtral_probe.stats.groups import ALL, groups_of
from mixtral_probe.stats.stats_file import Content
from mixtral_probe.stats.structure import Structure, StructureAccumulator
from mixtral_probe.stats.sums import Cells, Sums, add_cells
from mixtral_probe.stats.value_sums import ValueSums
from mixtral_probe.trace import Trace

_NAMES = (
    *("layers", "layer_pairs", "num_experts", "num_experts_per_tok"),
    *("by", "include_special", "where", "groups", "modulus"),
)


@dataclass(frozen=True, eq=False, repr=False)
class RoutingStats(NotebookRepr):
    """Sums per layer, group and block of documents; the source of all tables not about single tokens.

    `RoutingStats.from_trace(trace, by="domain")` computes them, `merge` joins two. Merging is associative and
    commutative: integers agree exactly, float sums to rounding (1e-12 relative); `stats/blocks.py` explains why blocks
    are the same in any order of merging. Special tokens are left out unless included.

    Its size does not grow with tokens: about 8 L G Bk (E (3 E + 2 K + P) + S + K^2 + 16 K + 64) bytes (P position
    buckets, S sets), and the counts of `Affinity`, which grow with the token types. Reading a trace takes a
    few dozen MB more, and a few bytes per token.
    """

    layers: tuple[int, ...]
    """[L] the model's own number of each layer."""
    layer_pairs: tuple[tuple[int, int], ...]
    """The pairs of layers whose transitions are counted: each layer and the next, then those requested."""
    num_experts: int
    """E."""
    num_experts_per_tok: int
    """K."""
    by: str | None
    """The document label the groups come from; None when there is the one group "all"."""
    include_special: bool
    """Whether special tokens (BOS and the like) were counted."""
    groups: tuple[str, ...]
    """[G] ascending."""
    block_keys: NDArray[np.uint64]
    """[Bk] ascending: hashes of document ids, or numbers below the modulus once folded."""
    modulus: int | None
    """What the hashes are folded modulo, since there were more documents than blocks; None where none are folded."""
    sums: Sums
    """[L, G, Bk, ...] the sums."""
    value_sums: ValueSums
    """[L, G, Bk, ...] the sums of values of single windows and documents."""
    histogram: NDArray[np.int64] | None
    """[L, G, Q, bins] how often each quantity of `CONFIDENCE` fell in each of its bins; None without logits."""
    structure: Structure
    """[L, G, Bk, ...] pairs and sets of experts, repeats, positions, transitions."""
    affinity: Affinity
    """[L, R, E] which experts each token type went to."""
    where: str | None = None
    """Which tokens count in which layer, as an expression; None for all."""

    @property
    def folded(self) -> bool:
        """Whether a block may hold several documents."""
        return self.modulus is not None

    @classmethod
    def from_trace(
        cls,
        trace: Trace,
        by: str | None = None,
        *,
        include_special: bool = False,
        layer_pairs: Iterable[tuple[int, int]] = (),
        where: str | None = None,
    ) -> "RoutingStats":
        """Compute the sums of a trace, read in chunks.

        Args:
            trace: the trace; `router_logits` and `expert_weights` may be missing, then their sums are missing too.
            by: a document label such as "domain" to group by; None for the one group "all".
            include_special: count special tokens too.
            layer_pairs: pairs of layers, as the model numbers them, whose transitions are counted too; those from each
                layer to the next always are.
            where: count only what an expression selects, such as `layer in 8..15 and token.is_digit`.

        Raises:
            InputError: no such label or layer, a label that is the reserved word "all", or a broken expression.
        """
        groups, group = groups_of(trace, by)
        keys = document_keys(trace.documents["id"])
        included = counted_rows(trace, include_special)
        trace, counted = _narrowed(trace, included, where)
        blocks, block = _blocks(trace, keys, counted)
        cells = Cells(group, block, (len(groups), blocks.number))
        pairs = _layer_pairs(trace.layers, layer_pairs)
        # Tokens that an expression counts in no layer stay among the summands: floats are then added in the same order.
        sums = SumsAccumulator(trace, cells, included)
        structure = StructureAccumulator(trace, cells, counted, pairs)
        affinity = AffinityAccumulator(trace, group, keys, counted)
        accumulate(trace, sums, structure, affinity)
        return cls(
            layers=trace.layers,
            layer_pairs=pairs,
            num_experts=trace.num_experts,
            num_experts_per_tok=trace.num_experts_per_tok,
            by=by,
            include_special=include_special,
            groups=groups,
            block_keys=blocks.keys,
            modulus=blocks.modulus,
            sums=sums.sums,
            value_sums=replace(sums.finish(), **structure.finish()),
            histogram=sums.histogram,
            structure=structure.structure,
            affinity=affinity.affinity,
            where=trace.where,
        )

    def update(self, trace: Trace) -> "RoutingStats":
        """Add a further trace, with the same grouping; return a new object."""
        settings = {name: getattr(self, name) for name in ("include_special", "layer_pairs", "where")}
        return self.merge(RoutingStats.from_trace(trace, self.by, **settings))

    def merge(self, other: "RoutingStats") -> "RoutingStats":
        """Add other statistics; return a new object.

        Raises:
            InputError: the two differ in layers, experts, grouping, special tokens or in what was recorded.
        """
        _check_mergeable(self, other)
        mine, theirs = self.aligned(other)
        pair = (mine.histogram, theirs.histogram)
        histogram = None if pair[0] is None or pair[1] is None else pair[0] + pair[1]
        return replace(
            mine,
            sums=mine.sums.merge(theirs.sums),
            value_sums=mine.value_sums.merge(theirs.value_sums),
            histogram=histogram,
            structure=mine.structure.merge(theirs.structure),
            affinity=mine.affinity.merge(theirs.affinity),
        )

    def aligned(self, other: "RoutingStats") -> tuple["RoutingStats", "RoutingStats"]:
        """Return both over the groups and blocks of either, so that their sums have the same axes."""
        groups = tuple(sorted({*self.groups, *other.groups}))
        blocks, modulus = union_blocks((self.block_keys, self.modulus), (other.block_keys, other.modulus))
        return self._placed(groups, blocks, modulus), other._placed(groups, blocks, modulus)

    def _placed(self, groups: tuple[str, ...], blocks: NDArray[np.uint64], modulus: int | None) -> "RoutingStats":
        """Return the same sums laid out over other groups and blocks that contain these."""
        if (groups, modulus) == (self.groups, self.modulus) and np.array_equal(blocks, self.block_keys):
            return self
        g = np.array([groups.index(name) for name in self.groups], np.intp)
        b = block_positions(self.block_keys, blocks, modulus)

        def placed(array: NDArray[np.generic]) -> NDArray[np.generic]:
            out = np.zeros((array.shape[0], len(groups), len(blocks), *array.shape[3:]), array.dtype)
            add_cells(out, g[:, None], b, array)
            return out

        histogram = None
        if self.histogram is not None:
            histogram = np.zeros((len(self.layers), len(groups), *self.histogram.shape[2:]), np.int64)
            histogram[:, g] = self.histogram
        return replace(
            self,
            groups=groups,
            block_keys=blocks,
            modulus=modulus,
            sums=self.sums.map(placed),
            value_sums=self.value_sums.map(placed),
            histogram=histogram,
            structure=self.structure.map(placed),
            affinity=self.affinity.regrouped(g),
        )

    def pooled(self) -> "RoutingStats":
        """Add all groups up into the one group "all"."""
        histogram = None if self.histogram is None else self.histogram.sum(1, keepdims=True)
        return replace(
            self,
            by=None,
            groups=(ALL,),
            sums=self.sums.map(lambda array: array.sum(1, keepdims=True)),
            value_sums=self.value_sums.map(lambda array: array.sum(1, keepdims=True)),
            histogram=histogram,
            structure=self.structure.map(lambda array: array.sum(1, keepdims=True)),
            affinity=self.affinity.regrouped(np.zeros(len(self.groups), np.intp)),
        )

    def total(self) -> Sums:
        """[L, G, ...] the sums of all blocks."""
        return self.sums.map(lambda array: array.sum(2))

    def without_block(self) -> Sums:
        """[L, G, Bk, ...] the sums of all blocks but one, for the jackknife."""
        return self.sums.map(lambda array: array.sum(2, keepdims=True) - array)

    def __repr__(self) -> str:
        tokens = int(self.sums.tokens.sum((1, 2)).max(initial=0))
        groups = "none" if self.by is None else f"{self.by}: {', '.join(self.groups)}"
        lines = [
            f"RoutingStats of {tokens:,} tokens: {len(self.layers):,} layers × {self.num_experts:,} experts, "
            f"{self.num_experts_per_tok} per token",
            f"  groups    {groups}",
            f"  intervals from {len(self.block_keys):,} {'blocks of documents' if self.folded else 'documents'}",
            f"  special   {'counted' if self.include_special else 'left out'}",
        ]
        return "\n".join(lines)

    def save(self, path: str | PathLike[str], of: str | None = None) -> None:
        """Write one safetensors file (arrays, and names as metadata), whole or not at all.

        Args:
            path: of the file.
            of: the fingerprint of the trace that these are the statistics of, where it has one on disk.
        """
        content = Content(*(getattr(self, name) for name in Content._fields))
        stats_file.write(path, {name: getattr(self, name) for name in _NAMES}, content, of)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "RoutingStats":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, of another kind, or written by a version that had other sums.
        """
        names, content = stats_file.read(path)
        return cls(**names, **content._asdict())


def _blocks(trace: Trace, keys: NDArray[np.uint64], counted: NDArray[np.bool_]) -> tuple[Blocks, NDArray[np.intp]]:
    """Return the blocks of the documents with counted tokens, and [documents] of each; others get the first."""
    # Where no token counts every document gets a block, since sums need one; all sums are 0.
    present = np.unique(trace.tokens["document"].to_numpy()[counted if counted.any() else ...])
    blocks = Blocks.of_keys(keys[present])
    block = np.zeros(len(keys), np.intp)
    block[present] = blocks.of_document
    return blocks, block


def _layer_pairs(layers: tuple[int, ...], more: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    requested = [(int(first), int(second)) for first, second in more]
    if unknown := sorted({layer for pair in requested for layer in pair} - {*layers}):
        raise InputError(f"layer_pairs must name layers with experts ({_span(layers)}), got layer {unknown[0]}")
    return tuple(dict.fromkeys([*pairwise(layers), *requested]))


def _span(layers: tuple[int, ...]) -> str:
    whole = layers == tuple(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}–{layers[-1]}" if whole else ", ".join(map(str, layers))


def _narrowed(trace: Trace, included: NDArray[np.bool_], where: str | None) -> tuple[Trace, NDArray[np.bool_]]:
    """Return the trace narrowed to an expression, and [T] which of the included tokens count in some layer."""
    if where is None:
        return trace, included
    narrowed = select(trace, where)
    return narrowed, included & (narrowed.expert_ids[..., 0] >= 0).any(0)


def _check_mergeable(a: RoutingStats, b: RoutingStats) -> None:
    names = {
        "layers": "layers",
        "layer_pairs": "pairs of layers",
        "num_experts": "experts",
        "num_experts_per_tok": "experts per token",
        "by": "label",
        "include_special": "choice about special tokens",
        "where": "expression",
    }
    for field, words in names.items():
        if getattr(a, field) != getattr(b, field):
            raise InputError(
                f"statistics can be merged when they have the same {words}, "
                f"got {getattr(a, field)} and {getattr(b, field)}"
            )
    if (mine := set(a.sums.arrays())) != (theirs := set(b.sums.arrays())):
        missing = ", ".join(sorted(mine ^ theirs))
        raise InputError(
            f"statistics can be merged when the same was recorded, got {missing} in only one of them; "
            "record router logits and expert weights in both runs or in neither"
        )
