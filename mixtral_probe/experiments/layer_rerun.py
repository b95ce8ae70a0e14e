"""A batch that can be run again from any layer on, from the hidden state stored before it, several times at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from mixtral_probe.instruments.routing_check import RoutingCheck
from mixtral_probe.model import ForwardContext, Instrument, MixtralForCausalLM, Site
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.forward import forward
from mixtral_probe.run.scoring import next_token_scores


@dataclass(frozen=True)
class StoredPass:
    """A forward pass of a batch, with the hidden states before some layers."""

    model: MixtralForCausalLM
    batch: Batch
    context: ForwardContext
    hidden: dict[int, Tensor]
    """[B, S, C] by layer, the stream before it."""
    choices: dict[int, Tensor]
    """[B·S, K] by layer, the experts chosen."""
    final: Tensor
    """[B, S, C] after the final norm."""

    @classmethod
    def of(cls, model: MixtralForCausalLM, batch: Batch, layers: Sequence[int]) -> "StoredPass":
        """Run a batch, and store the hidden state before each of some layers, and the choices there."""
        store = _Store(frozenset(layers))
        out = forward(model, batch, [store])
        return cls(model, batch, out.context, store.hidden, store.choices, out.last_hidden_state)

    def rerun(self, layer: int, instruments: Sequence[Instrument], copies: int = 1) -> tuple[Tensor, ForwardContext]:
        """[copies · B, S, C] the final hidden states of the batch, repeated, when it runs from a layer on once more."""
        hidden = self.hidden[layer].repeat(copies, 1, 1)
        check = RoutingCheck(edited=True)
        out = self.model.model.run_layers(hidden, _repeated(self.context, copies), [*instruments, check], layer)
        check.require(self.batch.windows, self.batch.ids.shape[1], self.model.lm_head.weight.dtype)
        return out


@dataclass(frozen=True)
class LayerRerun:
    """A stored pass, and the loss of its documents when it runs from one of its layers on again."""

    stored: StoredPass
    nll: Tensor
    """[B, S] without any change."""
    documents: np.ndarray
    """[d] the documents of the batch."""
    place: np.ndarray
    """[B·S] where in `documents` each token counts; d for those that do not: padding, special, nothing before them."""

    @classmethod
    def of(cls, model: MixtralForCausalLM, batch: Batch, counted: np.ndarray, layers: Sequence[int]) -> "LayerRerun":
        """Run a batch, and store what ``StoredPass`` stores.

        Args:
            counted: [T] each token's document, or the number of documents where it is not counted.
        """
        stored = StoredPass.of(model, batch, layers)
        nll, _ = next_token_scores(model, stored.final, batch.ids, stored.context)
        documents = np.unique([w.document for w in batch.windows])
        owner = batch.scatter(counted, -1).numpy()
        place = np.where(np.isin(owner, documents), np.searchsorted(documents, owner), len(documents))
        place[nll.isnan().reshape(-1).cpu().numpy()] = len(documents)
        return cls(stored, nll, documents, place)

    @property
    def batch(self) -> Batch:
        """Of the pass."""
        return self.stored.batch

    def run(self, layer: int, instrument: Instrument, copies: int = 1) -> np.ndarray:
        """[copies, d] sums of nll of the documents, nats, when the layers from this one on run with an instrument."""
        hidden, context = self.stored.rerun(layer, [instrument], copies)
        ids = self.batch.ids.repeat(copies, 1)
        nll, _ = next_token_scores(self.stored.model, hidden, ids, context, [instrument])
        return np.stack([self.sums(copy) for copy in nll.chunk(copies)])

    def sums(self, nll: Tensor) -> np.ndarray:
        """[d] of the values [B, S] of counted tokens."""
        values = np.nan_to_num(nll.reshape(-1).double().cpu().numpy())
        return np.bincount(self.place, values, len(self.documents) + 1)[:-1]

    def tokens(self) -> np.ndarray:
        """[d] counted tokens."""
        return np.bincount(self.place, minlength=len(self.documents) + 1)[:-1]

    def routed(self, layer: int, expert: int) -> np.ndarray:
        """[d] counted tokens that chose an expert."""
        chose = (self.stored.choices[layer] == expert).any(-1).cpu().numpy()
        return np.bincount(self.place, chose, len(self.documents) + 1)[:-1]


class _Store(Instrument):
    def __init__(self, layers: frozenset[int]) -> None:
        self._layers = layers
        self.hidden: dict[int, Tensor] = {}
        self.choices: dict[int, Tensor] = {}

    def wants(self, site: Site, layer: int) -> bool:
        """The stream before the layers, and their choices."""
        if site in (Site.EMBEDDING, Site.RESIDUAL):
            return layer + 1 in self._layers  # the embedding is the stream before layer 0, and MODEL is −1
        return site is Site.ROUTING and layer in self._layers

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the value, and return it unchanged."""
        if site is Site.ROUTING:
            self.choices[layer] = value.expert_ids
        else:
            self.hidden[layer + 1] = value
        return value


def _repeated(context: ForwardContext, copies: int) -> ForwardContext:
    """The context of a batch repeated along its rows; without an attention mask, all else is common to the rows."""
    ids = context.input_ids
    return context if copies == 1 or ids is None else replace(context, input_ids=ids.repeat(copies, 1))
