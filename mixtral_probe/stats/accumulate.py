"""Accumulation of sums, chunk by chunk: load, probabilities, gates, z-loss and confidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics import softmax
from mixtral_probe.stats.chunks import Chunk, small
from mixtral_probe.stats.per_token import CONFIDENCE, NUM_BINS, confidence, confidence_bins
from mixtral_probe.stats.sums import Cells, Sums, add_cells, zeros
from mixtral_probe.stats.unit_values import documents_of, names_of_windows
from mixtral_probe.stats.value_sums import ValueAccumulator, ValueSums
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
        self._values = ValueAccumulator(cells, self.sums)
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

    def finish(self) -> ValueSums:
        """Return the sums [L, G, Bk, ...] of values of windows and documents; no update may follow."""
        return self._values.finish()

    def _add(self, part: Chunk) -> None:
        ids, document = part.ids, part.document
        summands, sure = _per_token(part, ids)
        windows = names_of_windows(document, part.column("chunk"))
        starts = np.flatnonzero(np.diff(windows, prepend=-1))
        names, sums = windows[starts], _by_window(ids, summands, starts, part.trace.num_experts)
        owner, totals = documents_of(names), self.sums.arrays()
        for name, array in sums.arrays().items():
            add_cells(totals[name], self._cells.group[owner], self._cells.block[owner], array)
        self._values.update(names, sums)
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
    active = ids[0] >= 0
    if not active.all():  # logits of tokens without a choice may be no numbers
        recorded = np.where(active[..., None], recorded, np.float32(0))
    _check_numbers(recorded, part)
    chosen = _experts_last((ids == np.arange(experts, dtype=ids.dtype).reshape(-1, 1, 1, 1)).any(1))
    logits = _experts_last(np.moveaxis(recorded, -1, 0).astype(np.float64, order="C"))
    from_logits, sure = _per_logits(logits, active, chosen)
    if part.trace.meta.log_probabilities:
        from_logits["z_loss"] = np.full(active.shape, np.nan)
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


def _by_window(ids: NDArray[np.int16], summands: dict[str, Values], starts: NDArray[np.intp], experts: int) -> Sums:
    """[L, W, ...] the sums of each window of a chunk, whose tokens are contiguous and begin at `starts` [W].

    Args:
        ids: [L, n, K] expert ids.
        summands: [L, n, ...] as `_per_token` returns them.
        starts: [W]
        experts: E.
    """
    load = _load(ids, np.repeat(np.arange(len(starts)), np.diff(starts, append=ids.shape[1])), len(starts), experts)
    kinds = {name: np.int64 if values.dtype == bool else np.float64 for name, values in summands.items()}
    sums = {name: np.add.reduceat(values, starts, axis=1, dtype=kinds[name]) for name, values in summands.items()}
    return Sums(tokens=load[:, :, 0].sum(-1), load=load, **sums)


def _load(ids: NDArray[np.int16], window: NDArray[np.intp], windows: int, experts: int) -> NDArray[np.int64]:
    """[L, W, K, E] how often each expert was chosen at each rank in each window, of ids [L, n, K]."""
    layers, _, chosen = ids.shape
    load = np.empty((layers, windows, chosen, experts), np.int64)
    cell = (np.arange(layers)[:, None] * windows + window) * experts  # [L, n]
    for rank in range(chosen):
        of_rank = ids[..., rank]
        counts = np.bincount((cell + of_rank)[of_rank >= 0], minlength=layers * windows * experts)
        load[:, :, rank] = counts.reshape(layers, windows, experts)
    return load


def _count(histogram: NDArray[np.int64], sure: Floats, finite: Values, group: NDArray[np.intp]) -> None:
    """Add a chunk's confidence [L, n, Q] to the histograms [L, G, Q, bins] in place."""
    layers, groups, quantities, bins = histogram.shape
    cell = (np.arange(layers)[:, None] * groups + group) * bins  # [L, n]
    bin_ = confidence_bins(sure)
    for quantity in range(quantities):
        key = (cell + bin_[..., quantity])[finite[..., quantity]]
        counts = np.bincount(key, minlength=layers * groups * bins)
        histogram[:, :, quantity] += counts.reshape(layers, groups, bins)
