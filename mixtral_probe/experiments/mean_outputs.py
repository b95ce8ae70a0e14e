"""The mean output of each expert, and the edit that puts it in place of the expert's output."""

from typing import Any

import numpy as np
import torch

from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits import MeanExpert, ZeroExpert
from mixtral_probe.model import ForwardContext, Instrument, Site
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.forward import forward


def mean_expert(subject: Subject, planned: Plan, options: RunOptions, *, layer: int, expert: int) -> MeanExpert:
    """The edit whose constant is an expert's mean output; see ``Probe.mean_expert``."""
    ZeroExpert(layer=layer, expert=expert).check(subject.config)
    *sums, number = output_sums(subject, planned, options)[layer, expert]
    if not number:
        raise InputError(
            f"the mean of an expert needs tokens routed to it, got none for layer {layer}, expert {expert}; give more"
        )
    return MeanExpert(layer=layer, expert=expert, mean=tuple(float(total / number) for total in sums))


def mean_outputs(subject: Subject, planned: Plan, options: RunOptions) -> np.ndarray:
    """[L, E, C] mean output of each expert over the tokens routed to it; 0 where there is none."""
    sums = output_sums(subject, planned, options)
    return sums[..., :-1] / np.maximum(sums[..., -1:], 1)


def output_sums(subject: Subject, planned: Plan, options: RunOptions) -> np.ndarray:
    """[L, E, C + 1] sum of each expert's outputs over the tokens routed to it and, last, their number."""
    config = subject.config
    meter = _OutputSums(np.zeros((config.num_hidden_layers, config.num_local_experts, config.hidden_size + 1)))

    def add(batch: Batch) -> None:
        meter.valid = batch.scatter(np.ones(int(batch.rows.max()) + 1), 0).bool()
        forward(subject.model, batch, [meter])

    Passes.of(planned, options).over(planned, subject.device, add)
    return meter.sums


class _OutputSums(Instrument):
    """Sums outputs [L, E, C] and, last, counts."""

    sites = (Site.EXPERT_OUTPUT,)

    def __init__(self, sums: np.ndarray) -> None:
        self.sums, self.valid = sums, torch.empty(0)

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Add, and return the value unchanged."""
        values = value.values[self.valid.to(value.rows.device)[value.rows]].double().cpu().numpy()
        self.sums[layer, value.expert, :-1] += values.sum(0)
        self.sums[layer, value.expert, -1] += len(values)
        return value
