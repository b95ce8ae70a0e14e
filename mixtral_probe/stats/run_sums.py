"""Sums of one run of a what-if by document: what its tables need, whichever way the run was kept."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class RunTokens(NamedTuple):
    """The measurements of one run at each token."""

    nll: NDArray[Any]
    """[T] nats; NaN where there is no loss."""
    bits: NDArray[Any]
    """[T] KL divergence of what is expected next from that of the run without edits."""
    predicted: NDArray[Any]
    """[T] the most probable next token."""
    expert_ids: NDArray[Any]
    """[L, T, K]"""


@dataclass(frozen=True)
class RunSums:
    """Sums over the counted tokens of a run, or of several with a leading axis for them."""

    nll: NDArray[Any]
    """[..., documents] of the loss, nats."""
    bits: NDArray[Any]
    """[..., documents] of the divergence from the run without edits."""
    changed: NDArray[Any]
    """[..., documents] tokens after which another token is the best guess."""
    rerouted: NDArray[Any]
    """[..., L, documents] tokens with another set of experts."""
    used: NDArray[Any]
    """[..., L, E] assignments to each expert, of all documents."""

    @classmethod
    def of(cls, base: RunTokens, run: RunTokens, documents: NDArray[np.intp], number: int, experts: int) -> Self:
        """Sum one run over tokens.

        Args:
            base: the run without edits, which the run is compared with.
            documents: [T] the document of each token, and ``number`` where a token is not counted.
            number: of documents.
            experts: E.
        """
        moved = rerouted(base.expert_ids, run.expert_ids)
        sums = [np.nan_to_num(run.nll), run.bits, run.predicted != base.predicted, *moved]
        nll, bits, changed, *by_layer = (np.bincount(documents, values, number + 1)[:-1] for values in sums)
        ids = run.expert_ids[:, documents < number].reshape(len(moved), -1)
        used = np.array([np.bincount(layer[layer >= 0], minlength=experts) for layer in ids])
        return cls(nll, bits, changed, np.array(by_layer).reshape(-1, number), used)

    @classmethod
    def repeated(cls, sums: "RunSums", number: int) -> Self:
        """The same sums for a number of runs, to be changed in place."""
        return cls(*(np.repeat(getattr(sums, part.name)[None], number, 0) for part in fields(cls)))

    def add(self, run: int, documents: NDArray[np.intp], more: "RunSums", less: "RunSums") -> None:
        """Replace the part of one run that comes from some of its documents' tokens: add ``more``, take off ``less``.

        Args:
            documents: [d] those that ``more`` and ``less`` are about.
        """
        for name in ("nll", "bits", "changed", "rerouted"):
            getattr(self, name)[run][..., documents] += getattr(more, name) - getattr(less, name)
        self.used[run] += more.used - less.used


def rerouted(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.bool_]:
    """[L, T] whether a token has another set of experts; before, after: [L, T, K]."""
    return (np.sort(before, axis=-1) != np.sort(after, axis=-1)).any(-1)
