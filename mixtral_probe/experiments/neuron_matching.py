"""Which neurons of two experts correspond: an assignment that is the best one, or greedy where that would not end.

An exact assignment takes time with the cube of the number of neurons: half a second for 2,048, minutes for the 14,336
of Mixtral-8x7B, and a model has hundreds of pairs. A greedy one takes a few passes over the matrix of cosines.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mixtral_probe import metrics

Method = Literal["exact", "greedy"]
EXACT_NEURONS = 2048
"""Of an expert; with more of them neurons are paired greedily."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How alike the neurons of two experts are under an assignment of the ones to the others."""

    cosine: float
    """The mean cosine of corresponding neurons, in [−1, 1]."""
    tau: float
    """Kendall's tau of their order and the original one, in [−1, 1]; 1 where every neuron keeps its place."""
    bound: float
    """No assignment has a larger mean cosine; that of an exact one is its own."""


def matching_method(neurons: int) -> Method:
    """Return how experts of so many neurons are compared."""
    return "exact" if neurons <= EXACT_NEURONS else "greedy"


def match_neurons(one: Tensor, other: Tensor) -> Matching:
    """Assign the neurons of one expert to those of another by their cosines (Lo et al., 2406.18219, "reordering").

    Args:
        one, other: [I, n] float32 the neurons of two experts.
    """
    if matching_method(len(one)) == "exact":
        cosine, tau = metrics.aligned_cosine(one.cpu().numpy(), other.cpu().numpy())
        return Matching(cosine, tau, cosine)
    cosines = _unit(one) @ _unit(other).T
    order = greedy_assignment(cosines)
    cosine = float(_mean(cosines.gather(1, order[:, None])))
    bound = min(float(_mean(cosines.amax(axis))) for axis in (0, 1))
    return Matching(max(cosine, -1.0), metrics.order_tau(order.cpu().numpy()), max(bound, cosine))


def greedy_assignment(values: Tensor) -> Tensor:
    """[n] the column of each row when the largest value [n, n] is taken first, again and again, of what is left.

    Where no value is below 0, their sum is at least half of that of the best assignment (Preis 1999; Avis 1983); else
    this holds of the sums of values above 0. A pair that is the largest of both its row and its column is taken
    whatever comes before it, so that all such pairs are taken at once (Preis 1999), on random values about half of what
    is left.
    """
    order = torch.empty(len(values), dtype=torch.int64, device=values.device)
    rows = columns = torch.arange(len(values), device=values.device)
    while len(rows):
        best, of_column = values.argmax(1), values.argmax(0)
        taken = of_column[best] == torch.arange(len(rows), device=values.device)
        if not taken.any():  # a device that returns any of several equal places
            taken[values.amax(1).argmax()] = True
        order[rows[taken]] = columns[best[taken]]
        left = torch.ones_like(taken)
        left[best[taken]] = False
        values, rows, columns = values[~taken][:, left], rows[~taken], columns[left]
    return order


def chance_cosine(neurons: int, size: int, device: torch.device, *, seed: int = 0) -> float:
    """Return the mean cosine of two experts of independent normal neurons [neurons, size], matched alike: above 0."""
    if matching_method(neurons) == "exact":
        return metrics.chance_aligned_cosine(neurons, size, seed=seed)
    draw = np.random.default_rng(seed)
    one, other = (torch.from_numpy(draw.standard_normal((neurons, size), np.float32)).to(device) for _ in range(2))
    return match_neurons(one, other).cosine


def _unit(neurons: Tensor) -> Tensor:
    return torch.nn.functional.normalize(neurons, dim=-1, eps=1e-30)


def _mean(values: Tensor) -> Tensor:
    return values.mean(dtype=torch.float32 if values.device.type == "mps" else torch.float64)
