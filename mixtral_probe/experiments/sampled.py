"""What every expert makes of the same tokens, chosen for them or not: a sample of router inputs, layer by layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model import Call, Instrument, MixtralForCausalLM, Site
from mixtral_probe.model.layer import DecoderLayer
from mixtral_probe.model.moe import MixtureOfExperts
from mixtral_probe.run.batch import BARE, Batch
from mixtral_probe.run.plan import Plan, batches
from mixtral_probe.run.progress import CaptureStoppedError, OnProgress, ShouldStop, Tracker


@dataclass(frozen=True)
class Sample:
    """Router inputs of some tokens."""

    rows: np.ndarray
    """[n] the plan's rows, evenly spaced among those that are not special."""
    inputs: np.ndarray
    """[L, n, C] float32, what router and experts of a layer see."""
    logits: np.ndarray
    """[L, n, E] float32."""


def sample(
    model: MixtralForCausalLM, planned: Plan, tokens: int, positions: int,
    on_progress: OnProgress | None = None, should_stop: ShouldStop | None = None,
) -> Sample:  # fmt: skip
    """Run the documents and keep what the routers of at most ``tokens`` tokens saw.

    Raises:
        InputError: fewer than two tokens are asked for or there.
        CaptureStoppedError: ``should_stop`` said so.
    """
    ordinary = np.flatnonzero(~planned.tokens["special"].to_numpy(bool))
    if min(tokens, len(ordinary)) < 2:
        raise InputError(f"experts are compared on at least 2 tokens, but {min(tokens, len(ordinary))} are there")
    rows = ordinary[np.linspace(0, len(ordinary) - 1, min(tokens, len(ordinary))).round().astype(np.int64)]
    config, device = model.config, model.lm_head.weight.device
    kept = Sample(
        rows,
        np.zeros((config.num_hidden_layers, len(rows), config.hidden_size), np.float32),
        np.zeros((config.num_hidden_layers, len(rows), config.num_local_experts), np.float32),
    )
    tracker = Tracker(len(planned.documents), len(planned.token_ids), 0, on_progress)
    done: set[int] = set()
    for windows in batches(planned.windows, positions):
        if should_stop is not None and should_stop():
            raise CaptureStoppedError
        batch = Batch.of(planned.token_ids, windows, device)
        with torch.inference_mode():
            model.model(batch.ids, instruments=[_Keeper(kept, batch)], **BARE)
        done.update(w.document for w in windows)
        tracker.add(sum(w.length for w in windows), len(done))
    return kept


class _Keeper(Instrument):
    """Copies the router inputs and logits of the sampled tokens of one call."""

    sites = (Site.ROUTER_INPUT, Site.ROUTER_LOGITS)

    def __init__(self, kept: Sample, batch: Batch) -> None:
        place = np.searchsorted(kept.rows, batch.rows)
        mine = kept.rows[np.minimum(place, len(kept.rows) - 1)] == batch.rows
        self._kept, self._place, self._flat = kept, place[mine], batch.flat[torch.from_numpy(mine)]

    def visit(self, site: Site, layer: int, value: Tensor, call: Call) -> Any:
        """Copy, and return the value unchanged."""
        target = self._kept.inputs if site is Site.ROUTER_INPUT else self._kept.logits
        rows = value.reshape(-1, value.shape[-1])[self._flat.to(value.device)]
        target[layer, self._place] = rows.float().cpu().numpy()
        return value


def mixture(model: MixtralForCausalLM, layer: int) -> MixtureOfExperts:
    """Router and experts of a layer."""
    found = model.model.layers[layer]
    assert isinstance(found, DecoderLayer)
    return found.block_sparse_moe


@torch.no_grad()
def all_outputs(model: MixtralForCausalLM, layer: int, inputs: np.ndarray) -> np.ndarray:
    """[E, n, C] float32: what every expert of a layer makes of the rows [n, C], chosen for them or not."""
    block = mixture(model, layer).experts
    x = torch.from_numpy(inputs).to(block.down_proj.device, block.down_proj.dtype)
    return np.stack([block.expert_forward(expert, x).float().cpu().numpy() for expert in range(len(block.down_proj))])
