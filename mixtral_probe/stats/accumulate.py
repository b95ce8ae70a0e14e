"""From the rows of a trace to sums, a slice of tokens at a time, so that memory does not grow with the trace."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics import softmax
from mixtral_probe.stats.per_token import CONFIDENCE, NUM_BINS, confidence, confidence_bins
from mixtral_probe.stats.sums import Sums, add_cells, zeros
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Values = NDArray[Any]
_SLICE_ELEMENTS = 2**19


class Slice(NamedTuple):
    """Some counted tokens of a trace, in order; n of them."""

    document: NDArray[np.intp]
    """[n]"""
    rows: NDArray[np.intp]
    """[n] where they stand in the trace."""
    ids: NDArray[np.int16]
    """[L, n, K]"""
    weights: NDArray[np.float32] | None
    """[L, n, K]"""
    logits: NDArray[np.float32] | None
    """[L, n, E]"""


def counted_rows(trace: Trace, include_special: bool) -> NDArray[np.bool_]:
    """[T] True for the tokens statistics are made of: all but the special ones, unless asked for."""
    special = trace.tokens["special"].to_numpy(dtype=bool)
    return np.ones_like(special) if include_special else ~special


def slices(trace: Trace, counted: NDArray[np.bool_]) -> Iterator[Slice]:
    """The counted tokens of a trace in slices of bounded size; memory-mapped arrays are read piece by piece."""
    meta = trace.meta
    step = max(1, _SLICE_ELEMENTS // (meta.num_layers * meta.num_experts_per_tok * meta.num_experts))
    document = trace.tokens["document"].to_numpy()
    for start in range(0, len(document), step):
        keep = np.flatnonzero(counted[start : start + step])
        if keep.size:
            part = slice(start, start + step)
            yield Slice(
                document=document[part][keep].astype(np.intp),
                rows=start + keep,
                ids=np.asarray(trace.expert_ids[:, part])[:, keep],
                weights=None if trace.expert_weights is None else np.asarray(trace.expert_weights[:, part])[:, keep],
                logits=None if trace.router_logits is None else np.asarray(trace.router_logits[:, part])[:, keep],
            )


def accumulate(
    trace: Trace, group: NDArray[np.intp], block: NDArray[np.intp], size: tuple[int, int], include_special: bool
) -> tuple[Sums, NDArray[np.int64] | None]:
    """Sums [L, G, Bk, ...] and histograms [L, G, Q, bins] of a trace.

    Args:
        trace: the trace; its expert weights may be missing, then gates are made from the logits if there are any.
        group: [documents] which group each document belongs to.
        block: [documents] which block.
        size: (G, Bk).
        include_special: whether special tokens count.

    Raises:
        InputError: a router logit is NaN.
    """
    meta, logits = trace.meta, trace.router_logits is not None
    lead = (meta.num_layers, *size)
    shape = (meta.num_experts_per_tok, meta.num_experts, len(CONFIDENCE))
    sums = zeros(lead, shape, logits=logits, gates=logits or trace.expert_weights is not None)
    histogram = np.zeros((meta.num_layers, size[0], len(CONFIDENCE), NUM_BINS), np.int64) if logits else None
    for part in slices(trace, counted_rows(trace, include_special)):
        summands, sure = _per_token(part, meta.num_experts)
        _add_choices(sums, part, group, block)
        _add(sums, summands, part.document, group, block)
        if histogram is not None and sure is not None:
            _count(histogram, sure, summands["confidence_tokens"], group[part.document])
    return sums, histogram


def _per_token(part: Slice, num_experts: int) -> tuple[dict[str, Values], Floats | None]:
    """One slice's summands [L, n, ...], named as in `Sums`, and its confidence [L, n, Q] as it is."""
    ids = np.ascontiguousarray(np.moveaxis(part.ids, -1, 0))  # [K, L, n]
    summands: dict[str, Values] = {}
    if part.weights is not None:
        summands["gate"] = _experts_last(_gates(ids, part.weights, num_experts))
    if part.logits is None:
        return summands, None
    if np.isnan(part.logits).any():
        layer, row = np.argwhere(np.isnan(part.logits))[0][:2]
        raise InputError(f"router logits must be numbers, but token {part.rows[row]} has NaN at layer index {layer}")
    chosen = _experts_last((ids == np.arange(num_experts, dtype=ids.dtype).reshape(-1, 1, 1, 1)).any(1))
    logits = _experts_last(np.moveaxis(part.logits, -1, 0).astype(np.float64, order="C"))
    from_logits, sure = _per_logits(logits, ids[0] >= 0, chosen)
    return from_logits | summands, sure


def _experts_last(array: Values) -> Values:
    """[L, n, E] as seen from outside, of an array [E, L, n]: sums over few experts run along the tokens' memory."""
    return np.moveaxis(array, 0, -1)


def _gates(ids: NDArray[np.int16], weights: NDArray[np.float32], num_experts: int) -> Floats:
    """[E, L, n] the weight each expert was given, of ids [K, L, n] and weights [L, n, K]."""
    gates = np.zeros((num_experts, *ids.shape[1:]))
    for expert, gate in enumerate(gates):
        for rank, own in enumerate(ids):
            gate += np.where(own == expert, weights[..., rank], 0.0)
    return gates


def _per_logits(logits: Floats, active: Values, chosen: NDArray[np.bool_]) -> tuple[dict[str, Values], Floats]:
    probability, normalizer = softmax(logits)
    selected = np.where(chosen, probability, 0.0)
    total = selected.sum(-1, keepdims=True)
    sure = confidence(logits, probability, chosen)
    finite = np.isfinite(sure) & active[..., None]
    summands = {
        "probability": probability * active[..., None],
        "gate": np.divide(selected, total, out=np.zeros_like(selected), where=total > 0),
        "z_loss": np.square(normalizer) * active,
        "confidence": np.where(finite, sure, 0.0),
        "confidence_tokens": finite,
    }
    return summands, sure


def _add_choices(sums: Sums, part: Slice, group: NDArray[np.intp], block: NDArray[np.intp]) -> None:
    """Add a slice's choices to `load` and `tokens` in place."""
    layers, groups, blocks, chosen, experts = sums.load.shape
    cell = np.arange(layers)[:, None] * (groups * blocks) + (group * blocks + block)[part.document]  # [L, n]
    for rank in range(chosen):
        own = part.ids[..., rank]
        key = (cell * experts + own)[own >= 0]
        found = np.bincount(key, minlength=layers * groups * blocks * experts)
        sums.load[..., rank, :] += found.reshape(layers, groups, blocks, experts)
        if rank == 0:
            sums.tokens[...] += found.reshape(layers, groups, blocks, experts).sum(-1)


def _add(
    sums: Sums,
    summands: dict[str, Values],
    document: NDArray[np.intp],
    group: NDArray[np.intp],
    block: NDArray[np.intp],
) -> None:
    """Add a slice to the sums in place: first within each document (its rows are contiguous), then into its cell."""
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    owner = document[starts]
    totals = sums.arrays()
    for name, values in summands.items():
        per_document = np.add.reduceat(values, starts, axis=1, dtype=totals[name].dtype)
        add_cells(totals[name], group[owner], block[owner], per_document)


def _count(histogram: NDArray[np.int64], sure: Floats, finite: Values, group: NDArray[np.intp]) -> None:
    """Add a slice's confidence [L, n, Q] to the histograms [L, G, Q, bins] in place."""
    layers, groups, quantities, bins = histogram.shape
    cell = (np.arange(layers)[:, None] * groups + group) * bins  # [L, n]
    bin_ = confidence_bins(sure)
    for quantity in range(quantities):
        key = (cell + bin_[..., quantity])[finite[..., quantity]]
        found = np.bincount(key, minlength=layers * groups * bins)
        histogram[:, :, quantity] += found.reshape(layers, groups, bins)
