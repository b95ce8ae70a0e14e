"""The placebo of edits of attention heads: the same, done to as many other heads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.experiments.arrangements import MANY
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits.edit import HeadEdit
from mixtral_probe.model import ForwardContext, Instrument, Site
from mixtral_probe.run import Plan
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.edit_binding import bind_edits

_SETS = 1000
"""Sets of heads to draw from."""


@dataclass(frozen=True)
class OtherHeads:
    """The placebo of an edit of heads: the same, done to as many of the other heads."""

    sets: tuple[HeadEdit, ...]
    """The edit with other heads, in a random order; draws take one after the other."""
    number: int
    """Of all sets of other heads."""
    meant: np.ndarray
    """[T] bool, the tokens that meet the edit's conditions."""
    num_layers: int
    documents: pd.DataFrame

    def instruments(self, batch: Batch, draws: Sequence[int]) -> list[Instrument]:
        """One instrument for each draw, which changes the rows of the draw alone."""
        size = len(batch.windows)
        return [
            _InRows(bind_edits([self._set(draw)], self.documents, batch.windows)[0], place * size, size)
            for place, draw in enumerate(draws)
        ]

    def _set(self, draw: int) -> HeadEdit:
        return self.sets[draw % len(self.sets)]

    def layers(self, window: Window) -> np.ndarray:
        """The layers of the edit, where a token of the window meets its conditions."""
        named = self.sets[0].layers_named or tuple(range(self.num_layers))
        return np.array(named if self.meant[window.start : window.start + window.length].any() else (), np.intp)

    def arrangements(self, windows: Sequence[Window]) -> int:
        """How many sets of other heads there are."""
        return self.number if any(len(self.layers(window)) for window in windows) else 1

    def __str__(self) -> str:
        first = self.sets[0]
        if self.number == 1:
            return str(first)
        heads = f"{len(first.head)} other heads" if len(first.head) > 1 else "another head"
        return f"{str(first).partition(':')[0]}: the same with {heads}, one of {self.number:,} choices"


@dataclass(frozen=True)
class _InRows(Instrument):
    """Another instrument, in some rows of a call whose values begin with the batch."""

    instrument: Instrument
    first: int
    number: int

    def wants(self, site: Site, layer: int) -> bool:
        return self.instrument.wants(site, layer)

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Tensor:
        rows = slice(self.first, self.first + self.number)
        whole = {"input_ids": context.input_ids, "positions": context.positions, "valid": context.valid}
        of_rows: dict[str, Any] = {
            name: tensor if tensor is None or len(tensor) == 1 else tensor[rows] for name, tensor in whole.items()
        }
        changed = self.instrument.visit(site, layer, value[rows], replace(context, **of_rows))
        return torch.cat([value[: self.first], changed, value[rows.stop :]])


def other_heads(edit: HeadEdit, config: MixtralConfig, planned: Plan, meant: np.ndarray, seed: int) -> list[OtherHeads]:
    """The placebo of an edit of heads; none where it names them all."""
    others = [head for head in range(config.num_attention_heads) if head not in edit.head]
    size = min(len(edit.head), len(others))
    if not size:
        return []
    sets = [edit.model_copy(update={"head": heads}) for heads in _drawn_sets(others, size, seed)]
    number = min(comb(len(others), size), MANY)
    return [OtherHeads(tuple(sets), number, meant, config.num_hidden_layers, planned.documents)]


def _drawn_sets(values: Sequence[int], size: int, seed: int) -> list[tuple[int, ...]]:
    """Sets of some of the values: all in a random order, or where there are more than ``_SETS``, so many drawn ones."""
    rng = np.random.default_rng(seed)
    if comb(len(values), size) > _SETS:
        drawn = [rng.choice(values, size, replace=False).tolist() for _ in range(_SETS)]
        return [tuple(sorted(heads)) for heads in drawn]
    every = list(combinations(values, size))
    return [every[place] for place in rng.permutation(len(every))]
