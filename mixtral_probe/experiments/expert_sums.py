"""Sums over the outputs of each expert, by document."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mixtral_probe.metrics import is_massive
from mixtral_probe.model import ExpertSlice, ForwardContext, Instrument, MixtralForCausalLM, Routing, Site
from mixtral_probe.model.sites import MODEL
from mixtral_probe.run.batch import Batch

SUMS = ("counts", "norms", "gated_norms", "gates")


@dataclass
class ExpertSums:
    """Sums over all batches."""

    sums: dict[str, np.ndarray]
    """[L, documents, E] float64 by name: tokens, output lengths, lengths times weight, weights; special tokens out."""
    largest: np.ndarray
    """[L, E] the largest |output| of any channel on any token, special ones too."""
    massive: np.ndarray
    """[L + 1] bool, whether the residual stream had massive activations before the first and after each layer."""
    added: np.ndarray
    """[L, E, C] sum of what an expert adds to the stream, weight times output over the stream's root mean square."""
    contexts: dict[tuple[int, int], "TopRows"]

    @classmethod
    def empty(cls, model: MixtralForCausalLM, documents: int, contexts: int) -> "ExpertSums":
        """Sums over no tokens."""
        config = model.config
        layers, experts, width = config.num_hidden_layers, config.num_local_experts, config.hidden_size
        return cls(
            {name: np.zeros((layers, documents, experts)) for name in SUMS},
            np.zeros((layers, experts)),
            np.zeros(layers + 1, bool),
            np.zeros((layers, experts, width)),
            {(layer, expert): TopRows(contexts) for layer in range(layers) for expert in range(experts)},
        )


@dataclass
class TopRows:
    """The rows with the largest scores, the earlier of equal ones."""

    most: int
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, scores: np.ndarray, rows: np.ndarray) -> None:
        """Add rows, and keep the best; the order of calls does not matter."""
        scores, rows = np.concatenate([self.scores, scores]), np.concatenate([self.rows, rows])
        best = np.lexsort((rows, -scores))[: self.most]
        self.scores, self.rows = scores[best], rows[best]


class ExpertMeter(Instrument):
    """Adds the experts' outputs of one forward call to the sums.

    Args:
        totals: added to.
        batch: of the call.
        counted: [T] each token's document, or the number of documents where it is not counted.
    """

    def __init__(self, totals: ExpertSums, batch: Batch, counted: np.ndarray) -> None:
        self._totals = totals
        self._document = batch.scatter(counted, totals.sums["counts"].shape[1])
        self._row = batch.scatter(np.arange(len(counted)), -1)
        self._routing: Routing | None = None
        self._slices: list[ExpertSlice] = []

    def wants(self, site: Site, layer: int) -> bool:
        """The routing, the experts' outputs, and the residual stream they are added to."""
        if layer == MODEL:
            return site is Site.EMBEDDING
        return site in (Site.ROUTING, Site.EXPERT_OUTPUT, Site.RESIDUAL)

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the slices of a layer until its residual stream comes, then add them; returns the value unchanged."""
        if site is Site.ROUTING:
            self._routing, self._slices = value, []
        elif site is Site.EXPERT_OUTPUT:
            self._slices.append(value)
        else:
            stream = value.reshape(-1, value.shape[-1]).float()
            self._note_massive(layer + 1, stream)
            if site is Site.RESIDUAL:
                scale = stream.square().mean(-1).rsqrt()  # what the final norm divides by, were this the last layer
                for output in self._slices:
                    self._add(layer, output, scale)
        return value

    def _note_massive(self, after: int, stream: Tensor) -> None:
        size = stream.abs()
        largest = size.amax(-1)
        suspects = (largest > 100) & (self._row >= 0).to(largest.device)
        if suspects.any():
            massive = is_massive(largest[suspects].cpu().numpy(), size[suspects].median(-1).values.cpu().numpy())
            self._totals.massive[after] |= bool(massive.any())

    def _add(self, layer: int, output: ExpertSlice, scale: Tensor) -> None:
        assert self._routing is not None
        rows, expert = output.rows, output.expert
        gates = (self._routing.weights[rows] * (self._routing.expert_ids[rows] == expert)).sum(-1).float()
        values = output.values.float()
        document, row = self._document[rows.cpu()], self._row[rows.cpu()]
        if (valid := row >= 0).any():
            inside = values[valid.to(values.device)]
            self._totals.largest[layer, expert] = max(self._totals.largest[layer, expert], float(inside.abs().max()))
        kept = document < self._totals.sums["counts"].shape[1]
        values, gates, scale = (tensor[kept.to(values.device)] for tensor in (values, gates, scale[rows]))
        self._totals.added[layer, expert] += (values * (gates * scale)[:, None]).sum(0).double().cpu().numpy()
        self._add_sums(layer, expert, values.norm(dim=-1).cpu(), gates.cpu(), document[kept], row[kept])

    def _add_sums(self, layer: int, expert: int, norms: Tensor, gates: Tensor, document: Tensor, row: Tensor) -> None:
        where, gated = document.numpy(), (norms * gates).double().numpy()
        columns: Sequence[np.ndarray] = (np.ones(len(where)), norms.double().numpy(), gated, gates.double().numpy())
        for name, column in zip(SUMS, columns, strict=True):
            sums = self._totals.sums[name][layer, :, expert]
            sums += np.bincount(where, column, len(sums))
        self._totals.contexts[layer, expert].add(gated, row.numpy())
