"""Accumulation of sums, chunk by chunk: load, probabilities, gates, z-loss and confidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics import softmax
from mixtral_probe.stats.chunks import Chunk, small
from mixtral_probe.stats.per_token import CONFIDENCE, NUM_BINS, confidence, confidence_bins
from mixtral_probe.stats.sums import Cells, Sums, add_cells, zeros
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Values = NDArray[Any]


class SumsAccumulator:
    """The sums [L, G, Bk, ...] and histograms [L, G, Q, bins] of a trace.

    Args:
        trace: the trace; its expert weights may be missing, then gates are computed from the logits, if it has them.
        cells: where each document's sums are added.
        counted: [T] the tokens that count.
    """

    def __init__(self, trace: Trace, cells: Cells, counted: NDArray[np.bool_]) -> None:
        self._cells, self._counted, self._tokens = cells, counted, small(trace)
        logits = trace.router_logits is not None
        shape = (trace.num_experts_per_tok, trace.num_experts, len(CONFIDENCE))
        lead = (trace.num_layers, *cells.size)
        self.sums = zeros(lead, shape, logits=logits, gates=logits or trace.expert_weights is not None)
        bins = (*lead[:2], len(CONFIDENCE), NUM_BINS)
        self.histogram = np.zeros(bins, np.int64) if logits else None

    def update(self, chunk: Chunk) -> None:
        """Add a chunk, in place.

        Raises:
            InputError: a router logit is NaN.
        """
        for part in chunk.split(self._tokens):
            if self._counted[part.span].any():
                self._add(part.where(self._counted))

    def _add(self, part: Chunk) -> None:
        ids, document = part.ids, part.document
        summands, sure = _per_token(part, ids)
        _add_choices(self.sums, ids, self._cells.of_document[document])
        _add(self.sums, summands, document, self._cells)
        if self.histogram is not None and sure is not None:
            _count(self.histogram, sure, summands["confidence_tokens"], self._cells.group[document])


def _per_token(part: Chunk, expert_ids: NDArray[np.int16]) -> tuple[dict[str, Values], Floats | None]:
    """Return a chunk's summands [L, n, ...], named as in `Sums`, and its confidence [L, n, Q]; expert ids [L, n, K]."""
    ids = np.ascontiguousarray(np.moveaxis(expert_ids, -1, 0))  # [K, L, n]
    experts = part.trace.num_experts
    summands: dict[str, Values] = {}
    if (weights := part.weights) is not None:
        summands["gate"] = _experts_last(_gates(ids, weights, experts))
    if (recorded := part.logits) is None:
        return summands, None
    _check_numbers(recorded, part)
    chosen = _experts_last((ids == np.arange(experts, dtype=ids.dtype).reshape(-1, 1, 1, 1)).any(1))
    logits = _experts_last(np.moveaxis(recorded, -1, 0).astype(np.float64, order="C"))
    from_logits, sure = _per_logits(logits, ids[0] >= 0, chosen)
    return from_logits | summands, sure


def _check_numbers(logits: NDArray[np.float32], part: Chunk) -> None:
    if np.isnan(logits).any():
        layer, row = np.argwhere(np.isnan(logits))[0][:2]
        raise InputError(
            f"router logits must be numbers, got NaN for token {part.rows[row]} at layer index {layer}; "
            "record the trace again"
        )


def _experts_last(array: Values) -> Values:
    """[L, n, E] view of an array [E, L, n]: sums over few experts then read memory in the order of tokens."""
    return np.moveaxis(array, 0, -1)


def _gates(ids: NDArray[np.int16], weights: NDArray[np.float32], num_experts: int) -> Floats:
    """[E, L, n] the weight of each expert, of ids [K, L, n] and weights [L, n, K]."""
    gates = np.zeros((num_experts, *ids.shape[1:]))
    for expert, gate in enumerate(gates):
        for rank, chosen in enumerate(ids):
            gate += np.where(chosen == expert, weights[..., rank], 0.0)
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


def _add_choices(sums: Sums, ids: NDArray[np.int16], cell_of_token: NDArray[np.intp]) -> None:
    """Add a chunk's choices [L, n, K] to `load` and `tokens`, in place; cells [n] are group * Bk + block."""
    layers, groups, blocks, chosen, experts = sums.load.shape
    cell = np.arange(layers)[:, None] * (groups * blocks) + cell_of_token  # [L, n]
    for rank in range(chosen):
        of_rank = ids[..., rank]
        key = (cell * experts + of_rank)[of_rank >= 0]
        counts = np.bincount(key, minlength=layers * groups * blocks * experts)
        sums.load[..., rank, :] += counts.reshape(layers, groups, blocks, experts)
        if rank == 0:
            sums.tokens[...] += counts.reshape(layers, groups, blocks, experts).sum(-1)


def _add(sums: Sums, summands: dict[str, Values], document: NDArray[np.intp], cells: Cells) -> None:
    """Add a chunk to the sums in place: first within each document (its rows are contiguous), then into its cell."""
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    owner = document[starts]
    totals = sums.arrays()
    for name, values in summands.items():
        per_document = np.add.reduceat(values, starts, axis=1, dtype=totals[name].dtype)
        add_cells(totals[name], cells.group[owner], cells.block[owner], per_document)


def _count(histogram: NDArray[np.int64], sure: Floats, finite: Values, group: NDArray[np.intp]) -> None:
    """Add a chunk's confidence [L, n, Q] to the histograms [L, G, Q, bins] in place."""
    layers, groups, quantities, bins = histogram.shape
    cell = (np.arange(layers)[:, None] * groups + group) * bins  # [L, n]
    bin_ = confidence_bins(sure)
    for quantity in range(quantities):
        key = (cell + bin_[..., quantity])[finite[..., quantity]]
        counts = np.bincount(key, minlength=layers * groups * bins)
        histogram[:, :, quantity] += counts.reshape(layers, groups, bins)
