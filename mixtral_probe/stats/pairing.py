"""Two traces of the same texts, token by token: which experts both chose, and where they differ."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.metrics import chosen_mask
from mixtral_probe.stats.blocks import Blocks
from mixtral_probe.stats.chunks import counted_chunks, counted_rows
from mixtral_probe.stats.groups import groups_of
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Mask = NDArray[np.bool_]


SET_METRICS: dict[str, metrics.OfSets] = {
    "set_overlap": metrics.set_overlap,
    "same_set": metrics.same_set,
    "set_jaccard": metrics.set_jaccard,
    "set_hamming": metrics.set_hamming,
}
"""What is computed from the two sets of experts of a token."""


@dataclass(frozen=True)
class PairedStats:
    """Sums of two traces of the same texts, A and B, per layer, group and block of documents."""

    layers: tuple[int, ...]
    """[L] the model's own number of each layer."""
    groups: tuple[str, ...]
    """[G]"""
    by: str | None
    """The document label the groups come from; None when there is the one group "all"."""
    folded: bool
    """Whether a block may hold several documents."""
    tokens: Integers
    """[L, G, Bk] tokens that both traces sent to experts."""
    same_first: Integers
    """[L, G, Bk] of these, those with the same first choice."""
    sums: dict[str, Floats]
    """[L, G, Bk] sum over these of each of `SET_METRICS`."""
    sizes: Integers
    """[L, G, K, K] of these, those that chose 1, 2, … experts in A and in B."""
    load: Integers
    """[2, L, G, Bk, E] how often A and B chose each expert."""
    differing: Integers
    """[G, Bk, 2] tokens whose sets agree in all layers, and those that differ in at least one."""
    differing_by_chance: Floats
    """[G] sum over these tokens of the chance that sets of their sizes differ in at least one layer."""

    @classmethod
    def zeros(cls, a: Trace, by: str | None, groups: tuple[str, ...], blocks: Blocks) -> "PairedStats":
        """Return sums of 0 for a trace."""
        chosen, experts, (count, number) = a.num_experts_per_tok, a.num_experts, (len(groups), blocks.number)
        lead = (a.num_layers, count, number)
        return cls(
            layers=a.layers,
            groups=groups,
            by=by,
            folded=blocks.folded,
            tokens=np.zeros(lead, np.int64),
            same_first=np.zeros(lead, np.int64),
            sums={name: np.zeros(lead) for name in SET_METRICS},
            sizes=np.zeros((*lead[:2], chosen, chosen), np.int64),
            load=np.zeros((2, *lead, experts), np.int64),
            differing=np.zeros((count, number, 2), np.int64),
            differing_by_chance=np.zeros(count),
        )


def pair(a: Trace, b: Trace, by: str | None = None, *, include_special: bool = False) -> PairedStats:
    """Count the agreement of two traces, chunk by chunk.

    Args:
        a: a trace.
        b: another of the same texts, whose documents may come in another order.
        by: a label of A's documents to group by; None for the one group "all".
        include_special: count special tokens too.

    Raises:
        InputError: the traces are of different texts, or of models of different shape; or there is no such label.
    """
    b = _aligned(a, b)
    groups, group = groups_of(a, by)
    blocks, counted = Blocks.of(a.documents["id"]), counted_rows(a, include_special)
    stats = PairedStats.zeros(a, by, groups, blocks)
    same = _chance_of_same(a.num_experts, a.num_experts_per_tok)
    for mine, theirs in zip(counted_chunks(a, counted), counted_chunks(b, counted), strict=True):
        ids = np.stack([mine.ids, theirs.ids])  # [2, L, n, K]
        _add(stats, ids, group[mine.document], blocks.of_document[mine.document], same)
    return stats


def _chance_of_same(experts: int, chosen: int) -> Floats:
    """[K + 1, K + 1] how likely two sets of these sizes are equal, drawn uniformly; 1 where one is empty."""
    same = np.ones((chosen + 1, chosen + 1))
    for one, other in product(range(1, chosen + 1), repeat=2):
        same[one, other] = metrics.uniform_sets(metrics.same_set, experts, one, other)
    return same


def _add(stats: PairedStats, ids: NDArray[np.int16], group: Places, block: Places, same: Floats) -> None:
    """Add tokens, in place: ids [2, L, n, K] of groups and blocks [n]."""
    masks: Mask = np.any(chosen_mask(ids, stats.load.shape[-1]), axis=-2)  # [2, L, n, E]
    active: Mask = np.all(ids[..., 0] >= 0, axis=0)  # [L, n]
    size, common = masks.sum(-1), (masks[0] & masks[1]).sum(-1)
    layer, token = np.nonzero(active)
    cells, sets = (layer, group[token], block[token]), (common[active], *size[:, active])
    _count(stats.tokens, *cells)
    _count(stats.same_first, *(index[(ids[0, ..., 0] == ids[1, ..., 0])[active]] for index in cells))
    for name, formula in SET_METRICS.items():
        np.add.at(stats.sums[name], cells, formula(*sets))
    _count(stats.sizes, *cells[:2], *(size[:, active] - 1))
    side, layer, token, expert = np.nonzero(masks & active[..., None])
    _count(stats.load, side, layer, group[token], block[token], expert)
    routed: Mask = np.any(active, axis=0)
    differs: Mask = np.any(np.any(np.logical_xor(masks[0], masks[1]), axis=-1) & active, axis=0)
    _count(stats.differing, group[routed], block[routed], differs[routed].astype(np.intp))
    chance = 1 - same[(*np.where(active, size, 0),)].prod(0)  # [n]
    np.add.at(stats.differing_by_chance, group[routed], chance[routed])


def _count(total: Integers, *index: NDArray[np.integer[Any]]) -> None:
    """Add 1, in place, at each place of `total` that the indices name."""
    flat = np.ravel_multi_index(index, total.shape)
    total += np.bincount(flat, minlength=total.size).reshape(total.shape)


def _aligned(a: Trace, b: Trace) -> Trace:
    """Return B with its documents in the order of A's."""
    shapes = [(t.layers, t.num_experts, t.num_experts_per_tok) for t in (a, b)]
    if shapes[0] != shapes[1]:
        mine, theirs = (f"{len(layers)} layers × {e} experts, {k} per token" for layers, e, k in shapes)
        raise InputError(
            "traces can be compared token by token when their models have the same layers with experts, experts and "
            f"experts per token, got {mine} and {theirs}"
        )
    ids = [list(map(str, trace.documents["id"])) for trace in (a, b)]
    if ids[0] != ids[1]:
        b = b.select(_order(*ids))
    _check_tokens(a, b)
    return b


_SAME_TEXTS = "traces can be compared token by token when they are of the same texts, got "
_CAPTURE = "; capture the same documents with both models"


def _order(mine: list[str], theirs: list[str]) -> list[int]:
    """Return the number in B of each document of A."""
    place = {name: number for number, name in enumerate(theirs)}
    for name, owner, other in [(n, "first", place) for n in mine] + [(n, "second", {*mine}) for n in theirs]:
        if name not in other:
            raise InputError(f"{_SAME_TEXTS}document {name!r} in the {owner} alone{_CAPTURE}")
    if len(place) < len(theirs) or len(mine) != len(theirs):
        raise InputError(f"{_SAME_TEXTS}several documents with one id; give each document an id of its own")
    return [place[name] for name in mine]


def _check_tokens(a: Trace, b: Trace) -> None:
    names = ("document", "chunk", "position", "token_id", "special")
    mine, theirs = ([trace.tokens[name].to_numpy() for name in names] for trace in (a, b))
    shorter = min(len(a), len(b))
    different = np.zeros(shorter, bool)
    for first, second in zip(mine, theirs, strict=True):
        different |= first[:shorter] != second[:shorter]
    if different.any() or len(a) != len(b):
        row = int(np.argmax(different)) if different.any() else shorter
        longer = a if len(a) > row else b
        place = longer.tokens.iloc[row]
        name = longer.documents["id"].iloc[int(place["document"])]
        where = f"document {name!r} different from token {int(place['position'])} of window {int(place['chunk'])} on"
        raise InputError(f"{_SAME_TEXTS}{where}{_CAPTURE}")
