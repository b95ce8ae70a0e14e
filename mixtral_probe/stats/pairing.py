"""Two traces of the same texts, token by token: which experts both chose, and where they differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics import chosen_mask
from mixtral_probe.stats.blocks import Blocks
from mixtral_probe.stats.chunks import counted_chunks, counted_rows
from mixtral_probe.stats.groups import groups_of
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PairedStats:
    """Counts of two traces of the same texts, A and B, per layer, group and block of documents."""

    layers: tuple[int, ...]
    """[L] the model's own number of each layer."""
    groups: tuple[str, ...]
    """[G]"""
    by: str | None
    """The document label the groups come from; None when there is the one group "all"."""
    folded: bool
    """Whether a block may hold several documents."""
    common: Integers
    """[L, G, Bk, 2, K + 1] tokens by whether the first choices agree and how many experts are common."""
    load: Integers
    """[2, L, G, Bk, E] how often A and B chose each expert."""
    differing: Integers
    """[G, Bk, 2] tokens whose sets agree in all layers, and those that differ in at least one."""


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
    blocks = Blocks.of(a.documents["id"])
    block = blocks.of_document
    lead, chosen = (a.num_layers, len(groups), blocks.number), a.num_experts_per_tok
    common = np.zeros((*lead, 2, chosen + 1), np.int64)
    load = np.zeros((2, *lead, a.num_experts), np.int64)
    differing = np.zeros((*lead[1:], 2), np.int64)
    counted = counted_rows(a, include_special)
    for mine, theirs in zip(counted_chunks(a, counted), counted_chunks(b, counted), strict=True):
        document, ids = mine.document, np.stack([mine.ids, theirs.ids])  # [n], [2, L, n, K]
        g, k = group[document], block[document]
        masks: Mask = np.any(chosen_mask(ids, a.num_experts), axis=-2)  # [2, L, n, E]
        active: Mask = np.all(ids[..., 0] >= 0, axis=0)  # [L, n]
        shared = (masks[0] & masks[1]).sum(-1)
        first = (ids[0, ..., 0] == ids[1, ..., 0]).astype(np.intp)
        layer, token = np.nonzero(active)
        _count(common, layer, g[token], k[token], first[layer, token], shared[layer, token])
        side, layer, token, expert = np.nonzero(masks & active[..., None])
        _count(load, side, layer, g[token], k[token], expert)
        other: Mask = np.any(np.logical_xor(masks[0], masks[1]), axis=-1)
        rerouted: Mask = np.any(other & active, axis=0)
        routed: Mask = np.any(active, axis=0)
        _count(differing, g[routed], k[routed], rerouted[routed].astype(np.intp))
    return PairedStats(a.layers, groups, by, blocks.folded, common, load, differing)


def _count(total: Integers, *index: NDArray[np.intp]) -> None:
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
    ids = [list(trace.documents["id"].astype(str)) for trace in (a, b)]
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
