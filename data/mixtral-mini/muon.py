"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal."""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton–Schulz step, from the cited post


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """[n, rows, columns] → about U Vᵀ of each matrix's U S Vᵀ, in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """For weight matrices inside the layers. A stack [E, 2I, C] counts as 2E matrices [I, C], [E, C, I] as E."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: dict[str, float]) -> None:
        state = self.state[weight]
        velocity = state.setdefault("velocity", torch.zeros_like(weight))
        velocity.lerp_(weight.grad, 1 - group["momentum"])
        ahead = weight.grad.lerp(velocity, group["momentum"])
        matrices = ahead.view(-1, *_matrix_shape(weight))
        scale = max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(orthogonalise(matrices).reshape(weight.shape), alpha=-group["lr"] * scale)


def _matrix_shape(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of the matrices a weight is made of; w1 and w3 lie stacked, I rows each, in [E, 2I, C]."""
    rows, columns = weight.shape[-2:]
    return (rows // 2, columns) if weight.dim() == 3 and rows > columns else (rows, columns)
