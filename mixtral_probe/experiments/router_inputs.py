"""The router inputs of a sample of tokens, layer by layer, and the output of every expert for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model import ForwardContext, Instrument, MixtralForCausalLM, Site
from mixtral_probe.model.layer import DecoderLayer
from mixtral_probe.model.moe import MixtureOfExperts
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.forward import forward


@dataclass(frozen=True)
class RouterInputs:
    """Inputs and logits of the routers at a sample of tokens."""

    rows: np.ndarray
    """[n] the plan's rows, evenly spaced among those that are not special."""
    inputs: np.ndarray
    """[L, n, C] float32, the input of router and experts of a layer."""
    logits: np.ndarray
    """[L, n, E] float32."""

    @classmethod
    def sample(cls, subject: Subject, planned: Plan, options: RunOptions, tokens: int) -> "RouterInputs":
        """Run the documents, and keep the router inputs of at most ``tokens`` tokens.

        Raises:
            InputError: fewer than two tokens are asked for or in the documents.
        """
        ordinary = np.flatnonzero(~planned.tokens["special"].to_numpy(bool))
        if min(tokens, len(ordinary)) < 2:
            raise InputError(f"experts are compared on at least 2 tokens, got {min(tokens, len(ordinary))}; give more")
        rows = ordinary[np.linspace(0, len(ordinary) - 1, min(tokens, len(ordinary))).round().astype(np.int64)]
        config, model = subject.config, subject.model
        sample = cls(
            rows,
            np.zeros((config.num_hidden_layers, len(rows), config.hidden_size), np.float32),
            np.zeros((config.num_hidden_layers, len(rows), config.num_local_experts), np.float32),
        )

        def record(batch: Batch) -> None:
            forward(model, batch, [_SampleRecorder(sample, batch)])

        Passes.of(planned, options).over(planned, subject.device, record)
        return sample


class _SampleRecorder(Instrument):
    """Copies the router inputs and logits of the sampled tokens of one call."""

    sites = (Site.ROUTER_INPUT, Site.ROUTER_LOGITS)

    def __init__(self, sample: RouterInputs, batch: Batch) -> None:
        place = np.searchsorted(sample.rows, batch.rows)
        sampled = sample.rows[np.minimum(place, len(sample.rows) - 1)] == batch.rows
        self._sample, self._place, self._flat = sample, place[sampled], batch.flat[torch.from_numpy(sampled)]

    def visit(self, site: Site, layer: int, value: Tensor, context: ForwardContext) -> Any:
        """Copy, and return the value unchanged."""
        target = self._sample.inputs if site is Site.ROUTER_INPUT else self._sample.logits
        rows = value.reshape(-1, value.shape[-1])[self._flat.to(value.device)]
        target[layer, self._place] = rows.float().cpu().numpy()
        return value


def mixture(model: MixtralForCausalLM, layer: int) -> MixtureOfExperts:
    """Router and experts of a layer."""
    decoder = model.model.layers[layer]
    assert isinstance(decoder, DecoderLayer)
    return decoder.block_sparse_moe


@torch.no_grad()
def all_outputs(model: MixtralForCausalLM, layer: int, inputs: np.ndarray) -> np.ndarray:
    """[E, n, C] float32: the output of every expert of a layer for the rows [n, C], routed to it or not."""
    block = mixture(model, layer).experts
    x = torch.from_numpy(inputs).to(block.down_proj.device, block.down_proj.dtype)
    return np.stack([block.expert_forward(expert, x).float().cpu().numpy() for expert in range(len(block.down_proj))])
