"""A batch that was run once and can be run again from any layer, with the layers below as they were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.model import Call, Instrument, MixtralForCausalLM, Site
from mixtral_probe.run.batch import BARE, Batch
from mixtral_probe.run.scoring import next_token_scores


@dataclass(frozen=True)
class Restart:
    """What a run from the middle needs, and how it is scored."""

    model: MixtralForCausalLM
    batch: Batch
    call: Call
    hidden: dict[int, Tensor]
    """[B, S, C] by layer, the stream before it."""
    choices: dict[int, Tensor]
    """[B·S, K] by layer, the experts chosen."""
    nll: Tensor
    """[B, S] without any change."""
    documents: np.ndarray
    """[d] the documents of the batch."""
    place: np.ndarray
    """[B·S] where in `documents` each token counts; d for those that do not: padding, special, nothing before them."""

    @classmethod
    @torch.inference_mode()
    def of(cls, model: MixtralForCausalLM, batch: Batch, counted: np.ndarray, layers: Sequence[int]) -> "Restart":
        """Run a batch, and keep what is needed to begin again at these layers.

        Args:
            counted: [T] each token's document, or the number of documents where it is not counted.
        """
        keeper = _Keeper(frozenset(layers))
        out = model.model(batch.ids, instruments=[keeper], **BARE)
        nll, _ = next_token_scores(model, out.last_hidden_state, batch.ids, out.call)
        documents = np.unique([w.document for w in batch.windows])
        owner = batch.spread(counted, -1).numpy()
        place = np.where(np.isin(owner, documents), np.searchsorted(documents, owner), len(documents))
        place[nll.isnan().reshape(-1).cpu().numpy()] = len(documents)
        return cls(model, batch, out.call, keeper.hidden, keeper.choices, nll, documents, place)

    def run(self, layer: int, instrument: Instrument) -> np.ndarray:
        """[d] sums of nll of the documents, nats, when the layers from this one on run with an instrument."""
        hidden, call = self.model.model.run_layers(self.hidden[layer], self.call, [instrument], layer)
        nll, _ = next_token_scores(self.model, hidden, self.batch.ids, call, [instrument])
        return self.sums(nll)

    def sums(self, nll: Tensor) -> np.ndarray:
        """[d] of the values [B, S] of counted tokens."""
        values = np.nan_to_num(nll.reshape(-1).double().cpu().numpy())
        return np.bincount(self.place, values, len(self.documents) + 1)[:-1]

    def tokens(self) -> np.ndarray:
        """[d] counted tokens."""
        return np.bincount(self.place, minlength=len(self.documents) + 1)[:-1]

    def routed(self, layer: int, expert: int) -> np.ndarray:
        """[d] counted tokens that chose an expert."""
        chose = (self.choices[layer] == expert).any(-1).cpu().numpy()
        return np.bincount(self.place, chose, len(self.documents) + 1)[:-1]


class _Keeper(Instrument):
    def __init__(self, layers: frozenset[int]) -> None:
        self._layers = layers
        self.hidden: dict[int, Tensor] = {}
        self.choices: dict[int, Tensor] = {}

    def wants(self, site: Site, layer: int) -> bool:
        """The stream before the layers, and their choices."""
        if site in (Site.EMBEDDING, Site.RESIDUAL):
            return layer + 1 in self._layers  # the embedding is the stream before layer 0, and MODEL is −1
        return site is Site.ROUTING and layer in self._layers

    def visit(self, site: Site, layer: int, value: Any, call: Call) -> Any:
        """Keep the value, and return it unchanged."""
        if site is Site.ROUTING:
            self.choices[layer] = value.expert_ids
        else:
            self.hidden[layer + 1] = value
        return value


def mean_outputs(model: MixtralForCausalLM, batches: Sequence[Batch]) -> np.ndarray:
    """[L, E, C] mean output of each expert over the tokens routed to it; 0 where there is none."""
    sums = output_sums(model, batches)
    return sums[..., :-1] / np.maximum(sums[..., -1:], 1)


@torch.inference_mode()
def output_sums(model: MixtralForCausalLM, batches: Sequence[Batch]) -> np.ndarray:
    """[L, E, C + 1] sum of each expert's outputs over the tokens routed to it and, last, their number."""
    config = model.config
    meter = _Means(np.zeros((config.num_hidden_layers, config.num_local_experts, config.hidden_size + 1)))
    for batch in batches:
        meter.valid = batch.spread(np.ones(int(batch.rows.max()) + 1), 0).bool()
        model.model(batch.ids, instruments=[meter], **BARE)
    return meter.sums


class _Means(Instrument):
    """Sums outputs [L, E, C] and, last, counts."""

    sites = (Site.EXPERT_OUTPUT,)

    def __init__(self, sums: np.ndarray) -> None:
        self.sums, self.valid = sums, torch.empty(0)

    def visit(self, site: Site, layer: int, value: Any, call: Call) -> Any:
        """Add, and return the value unchanged."""
        values = value.values[self.valid.to(value.rows.device)[value.rows]].double().cpu().numpy()
        self.sums[layer, value.expert, :-1] += values.sum(0)
        self.sums[layer, value.expert, -1] += len(values)
        return value
