"""Edits of the router's logits, before the choice."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.edit import Edit, ExpertEdit, blend, words
from mixtral_probe.instruments.edits.rows import Rows
from mixtral_probe.instruments.edits.seeds import generator
from mixtral_probe.model import Routing, Site


class LogitEdit(Edit):
    """An edit that replaces the logits [T, E] of the router."""

    sites: ClassVar[tuple[Site, ...]] = (Site.ROUTER_LOGITS,)

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Change the logits where the conditions hold."""
        return blend(self.where(rows), self.logits(layer, value, rows), value)

    def logits(self, layer: int, value: Tensor, rows: Rows) -> Tensor:
        """[T, E] → [T, E], of all tokens."""
        raise NotImplementedError


class MaskExpert(LogitEdit, ExpertEdit):
    """Remove experts from the router's choice.

    >>> MaskExpert(layer=3, expert=5)
    """

    semantics: ClassVar[str] = (
        "{expert} cannot be chosen (router logit −∞), the next best takes over, and the weights of the chosen are "
        "renormalised to sum to 1"
    )
    sites: ClassVar[tuple[Site, ...]] = (Site.ROUTER_LOGITS, Site.ROUTING)
    edit: Literal["mask_expert"] = "mask_expert"

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit of experts, and that K remain."""
        super().check(config)
        refuse_too_few(config.num_local_experts - len(self.expert), config.num_experts_per_tok)

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Mask the logits; at the choice, check that no masked expert is chosen."""
        if site is Site.ROUTER_LOGITS:
            return super().change(site, layer, value, rows)
        refuse_masked(value)
        return value

    def logits(self, layer: int, value: Tensor, rows: Rows) -> Tensor:
        """Return −∞ for the experts, the other logits unchanged."""
        return value.index_fill(1, torch.tensor(self.expert, device=value.device), -torch.inf)


class BiasRouter(LogitEdit, ExpertEdit):
    """Increase or decrease the router logits of experts."""

    semantics: ClassVar[str] = (
        "{bias} is added to the router logits of {expert} before the choice: choice and weights both follow the "
        "new logits, and the weights of the chosen sum to 1"
    )
    edit: Literal["bias_router"] = "bias_router"
    bias: float
    """Added to the logits, in nats."""

    def logits(self, layer: int, value: Tensor, rows: Rows) -> Tensor:
        """Add the bias for the experts."""
        added = torch.zeros(value.shape[1], dtype=value.dtype, device=value.device)
        return value + added.index_fill(0, torch.tensor(self.expert, device=value.device), self.bias)


class Temperature(LogitEdit):
    """Divide the router logits by a temperature."""

    semantics: ClassVar[str] = (
        "the router logits are divided by {temperature}: the same experts are chosen, and their weights, which still "
        "sum to 1, become more even above 1 and less even below"
    )
    edit: Literal["temperature"] = "temperature"
    temperature: float = Field(gt=0)

    def logits(self, layer: int, value: Tensor, rows: Rows) -> Tensor:
        """Divide the logits."""
        return value / self.temperature


class NoiseRouter(LogitEdit):
    """Add noise to the router; it depends on seed, layer, document and window alone, not on the batch."""

    semantics: ClassVar[str] = (
        "normal noise of standard deviation {std} (seed {seed}) is added to every router logit before the choice: "
        "choice and weights both follow the new logits, and the weights of the chosen sum to 1"
    )
    edit: Literal["noise_router"] = "noise_router"
    std: float = Field(ge=0)
    seed: int = 0

    def logits(self, layer: int, value: Tensor, rows: Rows) -> Tensor:
        """Add the noise."""
        noise = torch.zeros(*rows.shape, value.shape[1])
        for row, (batch_row, places) in enumerate(rows.token_positions()):
            draw = generator(self.seed, layer, batch_row, rows.context)
            noise[row, places.cpu()] = torch.randn(len(places), value.shape[1], generator=draw)
        return value + self.std * noise.view(value.shape).to(value)


def refuse_masked(routing: Routing) -> None:
    """Raise InputError where a masked expert is chosen, because fewer than K others remain."""
    chosen = routing.logits.gather(1, routing.expert_ids.clamp(min=0))
    masked = torch.isneginf(chosen) & (routing.expert_ids >= 0)
    if bool(masked.any()):
        row = int(masked.any(1).nonzero()[0])
        remaining = int((~torch.isneginf(routing.logits[row])).sum())
        refuse_too_few(min(remaining, routing.expert_ids.shape[1] - 1), routing.expert_ids.shape[1])


def refuse_too_few(remaining: int, top_k: int) -> None:
    """Raise InputError where fewer than K experts remain."""
    if remaining < top_k:
        raise InputError(
            f"at least {words(top_k)} experts must remain for every token, got {max(remaining, 0)} after the edits; "
            "mask fewer"
        )
