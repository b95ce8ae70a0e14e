"""Statistics cached in the folder of a trace, so that a page about a million tokens reads sums, not rows.

A file of statistics has the fingerprint of its trace, which the trace records when it is written, so that those of
another model or text are recognised without reading the trace. Where one of the two was written by an earlier version
and has none, how often each expert was chosen in each layer is compared at 4,096 tokens or more.
"""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.stats import storage
from mixtral_probe.stats.blocks import block_positions, document_keys, folded_keys
from mixtral_probe.stats.chunks import counted_rows
from mixtral_probe.stats.groups import LABEL
from mixtral_probe.stats.routing import RoutingStats
from mixtral_probe.trace import Trace
from mixtral_probe.trace.storage.folder import recorded_fingerprint

STATS_FILE = "stats.safetensors"
_COMPARED_TOKENS = 4096


def routing_stats(trace: Trace, where: str | None = None) -> RoutingStats:
    """Return statistics of a trace, by domain where it has that label: the cached ones if they match, else new ones.

    Warns of cached ones that are damaged or of another trace.

    Args:
        trace: the trace.
        where: an expression that says which tokens count; such statistics are never cached.

    Raises:
        InputError: a broken expression.
    """
    cached = _cached(trace) if where is None else None
    return RoutingStats.from_trace(trace, by=_label(trace), where=where) if cached is None else cached


def cache_stats(trace: Trace) -> None:
    """Compute the statistics of a trace on disk and save them in its folder."""
    if trace.path is not None:
        add_stats(trace, trace.path)


def add_stats(trace: Trace, folder: Path) -> None:
    """Compute the statistics of a trace and save them in a folder that has its `trace.json`."""
    RoutingStats.from_trace(trace, by=_label(trace)).save(folder / STATS_FILE, of=recorded_fingerprint(folder))


def _label(trace: Trace) -> str | None:
    return LABEL if LABEL in trace.labels else None


def _cached(trace: Trace) -> RoutingStats | None:
    """Return the saved statistics of this trace; None where they are absent, damaged, or of another trace."""
    if trace.path is None or not (path := trace.path / STATS_FILE).is_file():
        return None
    try:
        saved = RoutingStats.load(path)
        if _is_of(saved, trace, path):
            return saved
        fault = f"{path} is of another trace, or grouped otherwise"
    except InputError as error:
        fault = str(error)
    warnings.warn(
        f"statistics are made from the trace, since those beside it cannot be used: {fault}; "
        "mixtral_probe.stats.cache_stats replaces them", stacklevel=3,
    )  # fmt: skip
    return None


def _is_of(saved: RoutingStats, trace: Trace, path: Path) -> bool:
    sizes = (saved.layers, saved.num_experts, saved.num_experts_per_tok, saved.by, saved.include_special, saved.where)
    if sizes != (trace.layers, trace.num_experts, trace.num_experts_per_tok, _label(trace), False, trace.where):
        return False
    assert trace.path is not None
    recorded, written = recorded_fingerprint(trace.path), storage.trace_of(path)
    return _counts_agree(saved, trace) if recorded is None or written is None else recorded == written


def _counts_agree(saved: RoutingStats, trace: Trace) -> bool:
    """Compare the number of tokens of all blocks, and the choices of the first blocks that have enough tokens."""
    keys = folded_keys(document_keys(trace.documents["id"]), saved.modulus)
    rows = np.flatnonzero(counted_rows(trace, include_special=False))
    document = trace.tokens["document"].to_numpy()[rows]
    if not np.isin(keys[np.unique(document)], saved.block_keys).all():
        return False
    block = block_positions(keys, saved.block_keys, None)[document]
    tokens = np.bincount(block, minlength=len(saved.block_keys))
    of_block = saved.sums.tokens.sum(1).max(0, initial=0)  # a token counts once, although every layer routes it
    compared = int(np.searchsorted(np.cumsum(tokens), _COMPARED_TOKENS)) + 1
    load = _load(np.asarray(trace.expert_ids[:, rows[block < compared]]), trace.num_experts)
    return bool((of_block <= tokens).all()) and np.array_equal(saved.sums.load[:, :, :compared].sum((1, 2)), load)


def _load(ids: NDArray[np.int16], num_experts: int) -> NDArray[np.int64]:
    """[L, K, E] how often each expert was chosen at each rank, of ids [L, n, K]."""
    ranks = np.moveaxis(ids, -1, 1)  # [L, K, n]
    counts = [np.bincount(chosen[chosen >= 0], minlength=num_experts) for layer in ranks for chosen in layer]
    return np.array(counts, np.int64).reshape(*ranks.shape[:2], num_experts)
