"""What a logit lens reads from logits, on the device they lie on, some rows at a time.

The formulas are those of ``metrics.prediction_entropy_bits`` and ``metrics.prediction_divergence_bits``, with one
exponential of each logit.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

_ELEMENTS_ON_CPU, _ELEMENTS = 2**18, 2**24
"""Logits at once: on a CPU as many as stay in its cache, elsewhere enough to keep it busy."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The prediction of the last layer, which is the model's, at n positions."""

    logits: Tensor
    """[n, V]"""
    p: Tensor
    """[n, V] its softmax."""
    log_sum: Tensor
    """[n] the logarithm of the sum of the exponentials of the logits."""
    best: Tensor
    """[n] int64, the most probable token."""

    @classmethod
    def of(cls, logits: Tensor) -> "Reference":
        """Normalise logits [n, V]."""
        p = logits.to(_wide(logits))
        log_sum = torch.empty(len(logits), dtype=p.dtype, device=p.device)
        for rows in _chunks(logits):
            largest = p[rows].amax(-1)
            weights = p[rows].sub_(largest[:, None]).exp_()
            total = weights.sum(-1)
            weights.div_(total[:, None])
            log_sum[rows] = total.log() + largest
        return cls(logits, p, log_sum, logits.argmax(-1))

    def scores(self, logits: Tensor, following: Tensor, top: int) -> dict[str, Tensor]:
        """Compare the prediction of a layer with it.

        Args:
            logits: [n, V] of the layer.
            following: [m] int64, the tokens that come after the first m of the n positions.
            top: predictions kept.

        Returns:
            the arrays [n] and [n, top] of ``LogitLensResult``, in bits, by name; NaN where no token follows.
        """
        chunks = [self._scores(logits, following, top, rows) for rows in _chunks(logits)]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _scores(self, logits: Tensor, following: Tensor, top: int, rows: slice) -> dict[str, Tensor]:
        z, targets = logits[rows].to(self.p.dtype), following[rows]
        largest = z.amax(-1)
        shifted = z - largest[:, None]
        weights = shifted.exp()
        total = weights.sum(-1)
        log_sum = total.log() + largest
        lost = self.logits[rows].to(z.dtype).sub_(z).mul_(self.p[rows]).sum(-1) + (log_sum - self.log_sum[rows])
        surprise = torch.full_like(total, torch.nan)
        surprise[: len(targets)] = log_sum[: len(targets)] - z[: len(targets)].gather(1, targets[:, None])[:, 0]
        best = logits[rows].topk(top).indices
        return {
            "entropy_bits": _bits(total.log() - weights.mul_(shifted).sum(-1) / total),
            "divergence_bits": _bits(lost.clamp_min(0.0)),
            "next_token_bits": _bits(surprise),
            "agrees": logits[rows].argmax(-1) == self.best[rows],
            "predicted_id": best.int(),
            "probability": (z.gather(1, best) - log_sum[:, None]).exp().float(),
        }


def elements_at_once(device: torch.device) -> int:
    """Return how many logits are read at a time on a device."""
    return _ELEMENTS_ON_CPU if device.type == "cpu" else _ELEMENTS


def _bits(nats: Tensor) -> Tensor:
    return (nats / log(2)).float()


def _wide(logits: Tensor) -> torch.dtype:
    """The dtype of sums over a vocabulary; Metal has no float64."""
    return torch.float32 if logits.device.type == "mps" else torch.float64


def _chunks(logits: Tensor) -> list[slice]:
    step = max(1, elements_at_once(logits.device) // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]
