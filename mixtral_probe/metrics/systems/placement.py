"""Expert parallelism: where replicas of experts go, and how unevenly that loads the ranks.

A placement is `[..., R]`: which expert each of R replicas is, replicas in the order of the ranks, R / ranks on each.
"""

from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def rank_load(load: ArrayLike, placement: ArrayLike, ranks: int) -> Floats:
    """[..., ranks] load of each rank: that of its replicas, an expert's load being shared evenly by its replicas.

    Args:
        load: [..., E] how often each expert was chosen.
        placement: [..., R] expert of each replica; R a multiple of `ranks`.
        ranks: how many devices share the experts.
    """
    n, where = np.asarray(load, np.float64), np.asarray(placement)
    where = np.broadcast_to(where, (*n.shape[:-1], where.shape[-1]))
    replicas = (where[..., None] == np.arange(n.shape[-1])).sum(-2)  # [..., E]
    each = np.take_along_axis(n / np.maximum(replicas, 1), where, -1)
    return each.reshape(*each.shape[:-1], ranks, -1).sum(-1)


def rank_imbalance(loads: ArrayLike) -> Floats:
    """[...] load of the busiest rank / mean load, of loads [..., ranks]: 1 when even, at most the number of ranks.

    The time of an expert-parallel layer divided by that of an even one; SGLang's and vLLM's balancedness is 1 / this.
    """
    n = np.asarray(loads, np.float64)
    return ratio(n.max(-1), n.mean(-1))


def eplb_placement(load: ArrayLike, *, replicas: int, groups: int = 1, nodes: int = 1, ranks: int = 1) -> Places:
    """[L, R] the placement of DeepSeek's expert-parallelism load balancer (EPLB), hierarchical over nodes.

    Groups of experts are packed into nodes, the busiest experts of a node get its spare replicas, and the
    replicas are packed into the node's ranks; each packing is greedy, heaviest first, into the lightest bin that is
    not full (github.com/deepseek-ai/EPLB). With one group and one node it is the global policy.

    Args:
        load: [L, E] how often each expert of each layer was chosen.
        replicas: R, at least E and a multiple of `ranks`.
        groups: of neighbouring experts that stay in one node; divides E and is a multiple of `nodes`.
        nodes: divides `ranks` and R.
        ranks: devices.
    """
    return np.stack([_layer(row, replicas, groups, nodes, ranks) for row in np.asarray(load, np.float64)])


def _layer(load: Floats, replicas: int, groups: int, nodes: int, ranks: int) -> Places:
    by_group = load.reshape(groups, -1)
    members = np.arange(load.size).reshape(groups, -1)
    placed: list[int] = []
    for inside in _packed(by_group.sum(-1), nodes):
        experts = members[inside].ravel()
        copies = _replicated(load[experts], replicas // nodes)
        count = np.bincount(copies, minlength=experts.size)
        each = (load[experts] / count)[copies]
        placed += [int(experts[copies[copy]]) for bin_ in _packed(each, ranks // nodes) for copy in bin_]
    return np.array(placed, np.intp)


def _packed(weights: Floats, bins: int) -> list[list[int]]:
    """Distribute items over bins, equally many in each: heaviest first, each into the lightest bin that is not full."""
    size = weights.size // bins
    packed: list[list[int]] = [[] for _ in range(bins)]
    if size == 1:
        return [[item] for item in range(bins)]
    total = [0.0] * bins
    for item in np.argsort(-weights, kind="stable").tolist():
        lightest = min((b for b in range(bins) if len(packed[b]) < size), key=total.__getitem__)
        packed[lightest].append(item)
        total[lightest] += float(weights[item])
    return packed


def _replicated(load: Floats, replicas: int) -> Places:
    """[replicas] the experts once each, then, again and again, the one whose replicas carry the most."""
    queue = [(-float(weight), expert, 1) for expert, weight in enumerate(load)]
    heapify(queue)
    extra = []
    for _ in range(replicas - load.size):
        _, expert, count = queue[0]
        extra.append(expert)
        heapreplace(queue, (-float(load[expert]) / (count + 1), expert, count + 1))
    return np.concatenate([np.arange(load.size), np.array(extra, int)]).astype(np.intp)
