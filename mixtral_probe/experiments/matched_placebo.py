"""The placebo of a what-if: as many assignments damaged in the same way, in the same layers, at random tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.experiments.arrangements import MANY, dealt_arrangements, exchanged_arrangements
from mixtral_probe.experiments.other_heads import other_heads
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits import Edit, MaskExpert, MeanExpert, ZeroExpert
from mixtral_probe.instruments.edits.edit import HeadEdit, words
from mixtral_probe.instruments.generated_damage import GeneratedDamage
from mixtral_probe.instruments.placebo import (
    DamageAssignments,
    ExchangeWeights,
    Semantics,
    draw_seed,
    matched_assignments,
)
from mixtral_probe.model import Instrument, Site
from mixtral_probe.run import Plan
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


class PlaceboPart(Protocol):
    """The placebo of one edit."""

    def instruments(self, batch: Batch, draws: Sequence[int]) -> list[Instrument]:
        """The instruments for a call over a batch repeated as often as there are draws, one after the other."""

    def layers(self, window: Window) -> np.ndarray:
        """The layers that are changed in a window."""

    def arrangements(self, windows: Sequence[Window]) -> int:
        """In how many ways it can turn out, at most ``MANY``."""


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

    def instruments(self, batch: Batch, draws: Sequence[int]) -> list[Instrument]:
        """The instruments of a batch repeated for some draws, one for each layer the edit touches."""
        layers = np.flatnonzero(self.touched[:, batch.rows].any((1, 2)))
        return [self._of_layer(int(layer), batch, draws) for layer in layers]

    def layers(self, window: Window) -> np.ndarray:
        """The layers in which the edit touches a token of the window."""
        return np.flatnonzero(self.touched[:, _rows(window)].any((1, 2)))

    def arrangements(self, windows: Sequence[Window]) -> int:
        """In how many ways the damage can be dealt out."""
        of_windows = (touched[_rows(window)] for touched in self.touched for window in windows)
        if self.semantics == "weights":
            return _product(exchanged_arrangements(int(touched[:, 0].sum())) for touched in of_windows)
        return _product(map(dealt_arrangements, of_windows))

    def generated(self, window: Window, draws: Sequence[int]) -> list[Instrument]:
        """The instruments of a generation whose new tokens are the window, one for each layer the edit touches."""
        if self.semantics == "weights":  # a token alone has nobody to exchange weights with
            return []
        return [self._generated(int(layer), window, draws) for layer in self.layers(window)]

    def _generated(self, layer: int, window: Window, draws: Sequence[int]) -> Instrument:
        touched = self.touched[layer]
        ranks = np.broadcast_to(np.arange(touched.shape[1]), touched.shape)
        drawn = [
            matched_assignments(
                ranks, touched, [window], len(touched), num_experts=touched.shape[1],
                seed=draw_seed((self.seed, layer), draw),
            )
            for draw in draws
        ]  # fmt: skip
        assert self.semantics != "weights"
        none = torch.zeros(0, self.experts, dtype=torch.bool)
        damage = DamageAssignments(layer, none, self.semantics, self._means(torch.device("cpu")))
        return GeneratedDamage(damage, torch.from_numpy(np.stack(drawn, axis=1)))

    def _means(self, device: torch.device) -> Tensor | None:
        """[E, C] the constant of an edit that has one."""
        if not isinstance(self.edit, MeanExpert):
            return None
        return torch.tensor(self.edit.mean, device=device).expand(self.experts, -1)

    def _of_layer(self, layer: int, batch: Batch, draws: Sequence[int]) -> Instrument:
        ids, touched = (_padded(values[layer], batch) for values in (self.before.expert_ids, self.touched))
        device, seeds = batch.ids.device, [draw_seed((self.seed, layer), draw) for draw in draws]
        if self.semantics == "weights":
            sources = [place * batch.size + _exchanged(touched[:, 0], batch, seed) for place, seed in enumerate(seeds)]
            return ExchangeWeights(layer, torch.from_numpy(np.concatenate(sources)).to(device))
        damaged = [
            matched_assignments(
                ids, touched, batch.windows, batch.ids.shape[1], num_experts=self.experts, seed=seed
            )
            for seed in seeds
        ]  # fmt: skip
        whole = torch.from_numpy(np.concatenate(damaged)).to(device)
        return DamageAssignments(layer, whole, self.semantics, self._means(device))

    def __str__(self) -> str:
        layers = tuple(np.flatnonzero(self.touched.any((1, 2))).tolist())
        what = "tokens" if self.semantics == "weights" else "assignments"
        count = self.touched[..., 0].sum() if self.semantics == "weights" else self.touched.sum()
        where = f"in layer{'s' * (len(layers) > 1)} {words(layers)}" if layers else "nowhere"
        return (
            f"{where}: {count:,} {what} drawn at random, in every layer and document as many of each rank as the edit "
            f"touches, {_DONE[self.semantics]}"
        )


@dataclass(frozen=True)
class Placebo:
    """The placebo of some edits, which can be drawn any number of times."""

    parts: tuple[PlaceboPart, ...]
    windows: tuple[Window, ...]
    """Of the plan."""

    def instruments(self, batch: Batch, draws: Sequence[int]) -> list[Instrument]:
        """The instruments for a call over a batch repeated as often as there are draws."""
        return [instrument for part in self.parts for instrument in part.instruments(batch, draws)]

    def layers(self, window: Window) -> np.ndarray:
        """The layers that are changed in a window."""
        return np.unique(np.concatenate([part.layers(window) for part in self.parts]))

    @property
    def arrangements(self) -> int:
        """In how many ways it can turn out, at most ``MANY``."""
        return _product(part.arrangements(self.windows) for part in self.parts)

    @property
    def sentences(self) -> list[str]:
        """The placebo of each edit in words."""
        return [str(part) for part in self.parts]


def matched_placebo(
    edits: Sequence[Edit],
    config: MixtralConfig,
    planned: Plan,
    meant: np.ndarray,
    before: RecordedRouting,
    after: RecordedRouting,
    seed: int,
) -> Placebo:
    """The placebo of edits, which separates the effect of an edit from that of as much damage at random.

    For an edit of routing or experts: in every layer and document as many assignments of each rank as it touches, of
    tokens drawn at random, are damaged alike; where it changes weights alone, as many tokens exchange theirs. For one
    of heads, the same is done to as many other heads. For a function of the user's that works elsewhere, nothing.

    Args:
        planned: the documents.
        meant: [edits, T] bool, the tokens that meet the conditions of each edit.
        before, after: the runs without and with the edits.
        seed: of what is drawn.
    """
    parts: list[PlaceboPart] = []
    for number, edit in enumerate(edits):
        if isinstance(edit, HeadEdit):
            parts += other_heads(edit, config, planned, meant[number], seed + number)
        elif set(edit.sites_used) & set(_ROUTER):
            semantics, touched = _touched(edit, before, after)
            layers = np.isin(np.arange(len(touched)), edit.layers_named or np.arange(len(touched)))
            touched &= layers[:, None, None] & meant[number][:, None]
            parts.append(Damage(edit, before, touched, semantics, config.num_local_experts, seed + number))
    return Placebo(tuple(parts), planned.windows)


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


def _exchanged(touched: np.ndarray, batch: Batch, seed: tuple[int, ...]) -> np.ndarray:
    """[B·S] the row whose weights each row takes: touched tokens of a window that of a random other of them."""
    source = np.arange(batch.size)
    for row, window in enumerate(batch.windows):
        tokens = row * batch.ids.shape[1] + np.arange(window.length)
        part = np.random.default_rng([*seed, window.document, window.chunk]).permutation(tokens[touched[tokens]])
        source[part] = np.roll(part, 1)  # in random order, so the neighbour is a random other token
    return source


def _rows(window: Window) -> slice:
    return slice(window.start, window.start + window.length)


def _product(numbers: Iterator[int]) -> int:
    """The product of numbers from 1 up, at most ``MANY``."""
    return reduce(lambda product, number: min(product * number, MANY), numbers, 1)


def _padded(values: np.ndarray, batch: Batch) -> np.ndarray:
    """[B·S, K] of the plan's [T, K]; 0 on padding."""
    placed = np.zeros((batch.size, values.shape[-1]), values.dtype)
    placed[batch.flat.numpy()] = values[batch.rows]
    return placed
