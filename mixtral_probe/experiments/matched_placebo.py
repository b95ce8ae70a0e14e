"""The placebo of a what-if: as many assignments damaged in the same way, in the same layers, at random tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mixtral_probe.config import MixtralConfig
from mixtral_probe.instruments.edits import Edit, MaskExpert, MeanExpert, ZeroExpert
from mixtral_probe.instruments.edits.edit import HeadEdit, words
from mixtral_probe.instruments.placebo import DamageAssignments, ExchangeWeights, Semantics, matched_assignments
from mixtral_probe.model import Instrument, Site
from mixtral_probe.run.batch import Batch

_ROUTER = (Site.ROUTER_LOGITS, Site.ROUTING, Site.EXPERT_OUTPUT)
_DONE = {
    "mask": "lose their expert, the next best takes over, and weights are renormalised to sum to 1",
    "zero": "get 0 as output, and weights are kept",
    "zero_renorm": "get 0 as output, and the token's other weights are renormalised to sum to 1",
    "mean": "get the constant of the edit as output, and weights are kept",
    "weights": "exchange their weights with each other, and experts are kept",
}


@dataclass(frozen=True)
class RecordedRouting:
    """The routing of one run, in the rows of the plan."""

    expert_ids: np.ndarray
    """[L, T, K]"""
    weights: np.ndarray
    """[L, T, K]"""


@dataclass(frozen=True)
class Damage:
    """The placebo of one edit of routing or experts."""

    edit: Edit
    before: RecordedRouting
    touched: np.ndarray
    """[L, T, K] bool, the assignments that the edit touches."""
    semantics: Semantics | Literal["weights"]
    experts: int
    seed: int

    def instruments(self, batch: Batch) -> list[Instrument]:
        """The instruments for a batch, one for each layer the edit touches."""
        layers = np.flatnonzero(self.touched[:, batch.rows].any((1, 2)))
        return [self._of_layer(int(layer), batch) for layer in layers]

    def _of_layer(self, layer: int, batch: Batch) -> Instrument:
        ids, touched = (_padded(values[layer], batch) for values in (self.before.expert_ids, self.touched))
        seed, device = (self.seed, layer), batch.ids.device
        if self.semantics == "weights":
            source = np.arange(batch.size)
            for row, window in enumerate(batch.windows):
                tokens = row * batch.ids.shape[1] + np.arange(window.length)
                part = np.random.default_rng([*seed, window.document, window.chunk]).permutation(
                    tokens[touched[tokens, 0]]
                )
                source[part] = np.roll(part, 1)  # in random order, so the neighbour is a random other token
            return ExchangeWeights(layer, torch.from_numpy(source).to(device))
        damaged = matched_assignments(
            ids, touched, batch.windows, batch.ids.shape[1], num_experts=self.experts, seed=seed
        )  # fmt: skip
        means = None
        if isinstance(self.edit, MeanExpert):
            means = torch.tensor(self.edit.mean, device=device).expand(self.experts, -1)
        return DamageAssignments(layer, torch.from_numpy(damaged).to(device), self.semantics, means)

    def __str__(self) -> str:
        layers = tuple(np.flatnonzero(self.touched.any((1, 2))).tolist())
        what = "tokens" if self.semantics == "weights" else "assignments"
        count = self.touched[..., 0].sum() if self.semantics == "weights" else self.touched.sum()
        where = f"in layer{'s' * (len(layers) > 1)} {words(layers)}" if layers else "nowhere"
        return (
            f"{where}: {count:,} {what} drawn at random, in every layer and document as many of each rank as the edit "
            f"touches, {_DONE[self.semantics]}"
        )


def matched_placebos(
    edits: Sequence[Edit],
    config: MixtralConfig,
    meant: np.ndarray,
    before: RecordedRouting,
    after: RecordedRouting,
    seed: int,
) -> tuple[Edit | Damage, ...]:
    """The placebos of edits, which separate the effect of an edit from that of as much damage at random.

    For an edit of routing or experts: in every layer and document as many assignments of each rank as it touches, of
    tokens drawn at random, are damaged alike; where it changes weights alone, as many tokens exchange theirs. For one
    of heads, the same is done to as many other heads. For a function of the user's that works elsewhere, nothing.

    Args:
        meant: [edits, T] bool, the tokens that meet the conditions of each edit.
        before, after: the runs without and with the edits.
        seed: of what is drawn.
    """
    matched: list[Edit | Damage] = []
    for number, edit in enumerate(edits):
        if isinstance(edit, HeadEdit):
            matched += _other_heads(edit, config, seed + number)
        elif set(edit.sites_used) & set(_ROUTER):
            semantics, touched = _touched(edit, before, after)
            layers = np.isin(np.arange(len(touched)), edit.layers_named or np.arange(len(touched)))
            touched &= layers[:, None, None] & meant[number][:, None]
            matched.append(Damage(edit, before, touched, semantics, config.num_local_experts, seed + number))
    return tuple(matched)


def _other_heads(edit: HeadEdit, config: MixtralConfig, seed: int) -> list[Edit]:
    others = [head for head in range(config.num_attention_heads) if head not in edit.head]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = [others[place] for place in order[: len(edit.head)]]
    return [edit.model_copy(update={"head": tuple(sorted(chosen))})] if chosen else []


def _touched(
    edit: Edit, before: RecordedRouting, after: RecordedRouting
) -> tuple[Semantics | Literal["weights"], np.ndarray]:
    """How, and [L, T, K] which assignments the edit touches if its conditions hold everywhere."""
    if isinstance(edit, MaskExpert):
        return "mask", np.isin(before.expert_ids, edit.expert)
    if isinstance(edit, ZeroExpert):
        return "zero_renorm" if edit.renormalise else "zero", np.isin(before.expert_ids, edit.expert)
    if isinstance(edit, MeanExpert):
        return "mean", np.isin(before.expert_ids, edit.expert)
    kept = (before.expert_ids[..., :, None] == after.expert_ids[..., None, :]).any(-1)
    lost = ~kept & (before.expert_ids >= 0)
    if lost.any():
        return "mask", lost
    other = np.abs(before.weights - after.weights).max(-1, keepdims=True) > 1e-6
    return "weights", np.broadcast_to(other, lost.shape).copy()


def _padded(values: np.ndarray, batch: Batch) -> np.ndarray:
    """[B·S, K] of the plan's [T, K]; 0 on padding."""
    placed = np.zeros((batch.size, values.shape[-1]), values.dtype)
    placed[batch.flat.numpy()] = values[batch.rows]
    return placed
