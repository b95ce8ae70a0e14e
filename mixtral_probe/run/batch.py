"""One batch of windows as the model takes it, and the tokens of its positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.instruments import Window, on_device
from mixtral_probe.run.plan import Plan

NO_EXTRA_OUTPUTS: dict[str, Any] = {
    "use_cache": False, "output_attentions": False, "output_hidden_states": False, "output_router_logits": False,
    "return_dict": True,
}  # fmt: skip
"""Arguments of a forward call that returns hidden states alone, whatever the model's config."""


@dataclass(frozen=True)
class Batch:
    """Windows padded on the right, where causal attention hides padding from tokens without a mask."""

    windows: tuple[Window, ...]
    ids: Tensor
    """[B, S] int64."""
    flat: Tensor
    """[n] int64, the places among the B·S that hold tokens."""
    rows: np.ndarray
    """[n] int64, the plan's row of each."""
    completes: tuple[int, ...] = ()
    """The documents whose last windows these are."""

    @classmethod
    def of(
        cls, token_ids: np.ndarray, windows: Sequence[Window], device: torch.device, completes: tuple[int, ...] = ()
    ) -> "Batch":
        """Pad some windows of the tokens [T] to one length."""
        longest = max(w.length for w in windows)
        ids = torch.zeros(len(windows), longest, dtype=torch.int64)
        for row, w in enumerate(windows):
            ids[row, : w.length] = torch.from_numpy(token_ids[w.start : w.start + w.length].astype(np.int64))
        inside = [np.arange(w.length) for w in windows]
        flat = np.concatenate([row * longest + i for row, i in enumerate(inside)])
        rows = np.concatenate([w.start + i for w, i in zip(windows, inside, strict=True)])
        return cls(tuple(windows), on_device(ids, device), torch.from_numpy(flat), rows, completes)

    @property
    def size(self) -> int:
        """B·S, padding included."""
        return self.ids.numel()

    def scatter(self, values: np.ndarray, padding: int) -> Tensor:
        """[B·S] int64: the plan's value [T] at every token, and ``padding`` elsewhere."""
        placed = torch.full((self.size,), padding, dtype=torch.int64)
        placed[self.flat] = torch.from_numpy(np.asarray(values)[self.rows].astype(np.int64))
        return placed


def counted_documents(planned: Plan) -> np.ndarray:
    """[T] each token's document, and one more than the last where the token is special and so not counted."""
    tokens = planned.tokens
    return np.where(tokens["special"], len(planned.documents), tokens["document"]).astype(np.int64)
