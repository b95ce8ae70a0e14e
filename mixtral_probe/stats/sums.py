"""The sums, with any leading axes: [L, G, Bk] in statistics, [L, G] when the blocks are added up."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SumsByName:
    """Arrays with the same leading axes; one that could not be computed is None."""

    def map(self, function: Callable[[Any], Any]) -> Self:
        """Apply a function to every array that is not None."""
        return replace(self, **{name: function(array) for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are not None, by name."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: array for name, array in pairs if array is not None}

    def merge(self, other: Self) -> Self:
        """Add other sums; what either lacks is None."""
        theirs = other.arrays()
        both = {name: array + theirs[name] for name, array in self.arrays().items() if name in theirs}
        return type(self)(**{field.name: both.get(field.name) for field in fields(self)})


@dataclass(frozen=True)
class Sums(SumsByName):
    """Sums over tokens. The float ones are None when the trace lacked the arrays they are computed from."""

    tokens: Integers
    """[...] tokens for which any expert was chosen."""
    load: Integers
    """[..., K, E] how often each expert was chosen at each rank (0 = strongest)."""
    probability: Floats | None = None
    """[..., E] sum of the softmax of the router logits over all experts."""
    gate: Floats | None = None
    """[..., E] sum of the weights of the chosen experts."""
    z_loss: Floats | None = None
    """[...] sum of logsumexp(logits)^2, nats^2."""
    confidence: Floats | None = None
    """[..., Q] sum of each quantity of `CONFIDENCE`, where finite."""
    confidence_tokens: Integers | None = None
    """[..., Q] tokens for which the quantity was finite."""

    @property
    def counts(self) -> Integers:
        """[..., E] how often each expert was chosen at any rank."""
        return self.load.sum(-2)

    @property
    def choices(self) -> Integers:
        """[..., K] tokens that chose 1, 2, … K experts."""
        reached = self.load.sum(-1)  # tokens that chose so many or more
        return reached - np.concatenate([reached[..., 1:], np.zeros_like(reached[..., :1])], axis=-1)


class Cells(NamedTuple):
    """The groups and blocks that the sums of documents are added to."""

    group: NDArray[np.intp]
    """[documents]"""
    block: NDArray[np.intp]
    """[documents]"""
    size: tuple[int, int]
    """G and Bk."""

    @property
    def of_document(self) -> NDArray[np.intp]:
        """[documents] one number for group and block: group * Bk + block."""
        return self.group * self.size[1] + self.block


def zeros(lead: tuple[int, ...], shape: tuple[int, int, int], *, logits: bool, gates: bool) -> Sums:
    """Return sums of 0 with the leading axes `lead`, for (K, E, Q) = `shape`."""
    chosen, experts, quantities = shape
    return Sums(
        tokens=np.zeros(lead, np.int64),
        load=np.zeros((*lead, chosen, experts), np.int64),
        probability=np.zeros((*lead, experts)) if logits else None,
        gate=np.zeros((*lead, experts)) if gates else None,
        z_loss=np.zeros(lead) if logits else None,
        confidence=np.zeros((*lead, quantities)) if logits else None,
        confidence_tokens=np.zeros((*lead, quantities), np.int64) if logits else None,
    )


def add_cells(total: NDArray[Any], group: NDArray[np.intp], block: NDArray[np.intp], summands: NDArray[Any]) -> None:
    """Add to `total` [L, G, Bk, ...], in place, at the cells (group, block); a cell named twice gets both."""
    cells: Any = (slice(None), group, block)
    np.add.at(total, cells, summands)
