"""Statistics as earlier versions wrote them."""

import json

import numpy as np
from safetensors.numpy import save_file

_FORMAT = "mixtral-probe routing stats"


def save_as_version_4(stats, path):
    """Write a file as version 4 did: every cell, documents above 64 folded modulo 64."""
    keys = stats.block_keys
    folded = len(keys) > 64
    blocks = np.unique(keys % np.uint64(64)) if folded else keys
    place = np.searchsorted(blocks, keys % np.uint64(64) if folded else keys)

    def dense(array):
        out = np.zeros((*array.shape[:2], len(blocks), *array.shape[3:]), array.dtype)
        for block, where in enumerate(place):
            out[:, :, where] += array[:, :, block]
        return out

    arrays = {name: dense(array) for name, array in stats.sums.arrays().items()}
    counts = stats.structure.arrays()
    del counts["transition_choices"]
    arrays |= {f"structure.{name}": dense(array) for name, array in counts.items()}
    arrays |= {"block_keys": blocks, "affinity.keys": stats.affinity.keys}
    arrays |= {} if stats.histogram is None else {"histogram": stats.histogram}
    arrays["affinity.counts"] = np.ascontiguousarray(stats.affinity.counts)
    names = ("layers", "layer_pairs", "num_experts", "num_experts_per_tok", "by", "include_special", "where", "groups")
    header = {name: getattr(stats, name) for name in names}
    header |= {"folded": folded, "pieces": stats.affinity.pieces, "version": 4}
    save_file(arrays, path, {_FORMAT: json.dumps(header)})
