"""Packed attention weights, as in a trace: of each query only the visible keys, the lower triangle."""

from functools import lru_cache
from math import log2

import torch
from torch import Tensor

_ELEMENTS = 2**21
"""Weights that are processed at once: in float64 few enough for the allocator of a CPU to use their memory again."""


def pack_attention(weights: Tensor) -> Tensor:
    """[h, S, M] of the last S of M positions → [h, P] float32: of each query its M − S + 1, …, M first keys.

    With S = M this is the lower triangle row by row, P = S(S+1)/2.
    """
    places, _, _ = _visible(*weights.shape[1:])
    return weights.float().flatten(1).index_select(1, places.to(weights.device))


def attention_sums(packed: Tensor, queries: int, keys: int) -> dict[str, Tensor]:
    """Return sums over the queries, the last S of M positions, of packed weights [h, P], each [h] float64.

    ``entropy_bits``: −Σ_j a_ij log2 a_ij; ``distance``: Σ_j a_ij (i − j), in tokens; ``sink``: a_i0. Terms are added
    in float64: of the 8 million terms of a window of 4,096 tokens a float32 sum would keep three digits.
    """
    _, distance, first = (places.to(packed.device) for places in _visible(queries, keys))
    size = max(1, _ELEMENTS // packed.shape[0])
    parts = zip(packed.split(size, 1), distance.split(size), strict=True)
    entropies, distances = zip(*(_sums(some, places) for some, places in parts), strict=True)
    sink = packed.index_select(1, first).sum(1, dtype=torch.float64)
    return {"entropy_bits": sum(entropies), "distance": sum(distances), "sink": sink}


def _sums(packed: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums [h] of entropy and distance of some entries: weights [h, n], distances float64 [n]."""
    logs = packed.clamp_min(torch.finfo(torch.float32).tiny).log_().mul_(packed)
    return logs.sum(1, dtype=torch.float64) * -log2(torch.e), packed.double() @ distance


@lru_cache(maxsize=2)
def _visible(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return each packed entry's place in the flat [S, M] and its i − j, each [P]; and the entries of key 0, [S]."""
    row, key = torch.tril_indices(queries, keys, offset=keys - queries, dtype=torch.int32)
    return row * keys + key, (row + (keys - queries) - key).double(), (key == 0).nonzero().squeeze(1)
