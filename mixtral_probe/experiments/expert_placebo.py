"""The placebo of one ablated expert: the same damage to as many assignments of random tokens, whatever their expert."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mixtral_probe.experiments.arrangements import dealt_arrangements
from mixtral_probe.experiments.layer_rerun import LayerRerun
from mixtral_probe.instruments.placebo import DamageAssignments, Semantics, draw_seed, matched_assignments
from mixtral_probe.model import Instrument


@dataclass(frozen=True)
class ExpertPlacebo:
    """The placebo of one expert in one batch."""

    rerun: LayerRerun
    layer: int
    expert: int
    semantics: Semantics
    seed: int
    means: np.ndarray | None
    """[L, E, C] the mean output of each expert, for the semantics "mean"."""

    def instrument(self, draws: Sequence[int]) -> Instrument:
        """Some draws, for the batch repeated as often."""
        batch, choices = self.rerun.batch, self.rerun.stored.choices[self.layer]
        ids, experts = choices.cpu().numpy(), self.rerun.stored.model.config.num_local_experts
        damaged = [
            matched_assignments(
                ids, ids == self.expert, batch.windows, batch.ids.shape[1], num_experts=experts,
                seed=draw_seed((self.seed, self.layer, self.expert), draw),
            )
            for draw in draws
        ]  # fmt: skip
        whole = torch.from_numpy(np.concatenate(damaged)).to(choices.device)
        means = None if self.means is None else torch.from_numpy(self.means[self.layer]).to(choices.device)
        return DamageAssignments(self.layer, whole, self.semantics, means)

    def log_arrangements(self) -> np.ndarray:
        """[d] by document of the batch, the natural logarithm of the number of ways in which it can turn out."""
        ways, length = np.zeros(len(self.rerun.documents)), self.rerun.batch.ids.shape[1]
        touched = (self.rerun.stored.choices[self.layer] == self.expert).cpu().numpy()
        for row, window in enumerate(self.rerun.batch.windows):
            place = np.searchsorted(self.rerun.documents, window.document)
            ways[place] += math.log(dealt_arrangements(touched[row * length :][: window.length]))
        return ways
