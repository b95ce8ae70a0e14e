"""Edits of the outputs of experts and attention heads."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.choices import strongest_first
from mixtral_probe.instruments.edits.edit import ExpertEdit, HeadEdit, blend
from mixtral_probe.instruments.edits.rows import Rows
from mixtral_probe.model import Routing, Site


class ZeroExpert(ExpertEdit):
    """Set the output of experts to 0: tokens are still routed to them."""

    sites: ClassVar[tuple[Site, ...]] = (Site.EXPERT_OUTPUT, Site.ROUTING)
    edit: Literal["zero_expert"] = "zero_expert"
    renormalise: bool = False
    """Distribute the expert's weight to the token's other experts."""

    @property
    def semantics(self) -> str:  # type: ignore[override]
        """The effect, with or without renormalised weights."""
        rest = "and the weights of the token's other experts are renormalised to sum to 1"
        return "the output of {expert} is 0, the choice is kept, " + (
            rest if self.renormalise else "and so are all weights, without renormalising"
        )

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for the expert's output, or with ``renormalise`` the choice, where changed weights are enough."""
        return super().wants(site, layer) and (site is Site.ROUTING) is self.renormalise

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Return zeros instead of the output, or of the weight."""
        if site is Site.ROUTING:
            return self._without_weight(value, self.where(rows))
        if value.expert not in self.expert:
            return value
        return replace(value, values=blend(_of_rows(self.where(rows), value.rows), value.values * 0, value.values))

    def _without_weight(self, routing: Routing, where: Tensor | None) -> Routing:
        """Distribute the expert's weight; rows without the expert stay equal to the bit."""
        assigned = torch.isin(routing.expert_ids, torch.tensor(self.expert, device=routing.expert_ids.device))
        affected = assigned.any(1) if where is None else assigned.any(1) & where.reshape(-1)
        kept = routing.weights.masked_fill(assigned, 0)
        total = kept.sum(1, keepdim=True)
        distributed = torch.where(total > 0, kept / total.where(total > 0, torch.ones_like(total)), kept)
        ids, weights = strongest_first(routing.expert_ids, distributed)
        return replace(
            routing,
            expert_ids=blend(affected, ids, routing.expert_ids),
            weights=blend(affected, weights, routing.weights),
        )


class MeanExpert(ExpertEdit):
    """Replace the output of experts by a constant."""

    semantics: ClassVar[str] = (
        "the output of {expert} is one constant whatever the token, the mean over the documents it was measured on; "
        "choice and weights are kept, without renormalising"
    )
    sites: ClassVar[tuple[Site, ...]] = (Site.EXPERT_OUTPUT,)
    edit: Literal["mean_expert"] = "mean_expert"
    mean: tuple[float, ...]
    """[C] measured before, such as the mean of the values at ``expert_output``."""

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit of experts, and that the mean has the model's width."""
        super().check(config)
        if len(self.mean) != config.hidden_size:
            raise InputError(f"the mean of MeanExpert must have {config.hidden_size} numbers, got {len(self.mean)}")

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Return the mean instead of the output."""
        if value.expert not in self.expert:
            return value
        constant = torch.tensor(self.mean, dtype=value.values.dtype, device=value.values.device)
        new = constant.expand_as(value.values)
        return replace(value, values=blend(_of_rows(self.where(rows), value.rows), new, value.values))


class ScaleHead(HeadEdit):
    """Multiply the output of attention heads by a factor."""

    semantics: ClassVar[str] = (
        "the output of attention {head} is multiplied by {factor} before the output projection; nothing is renormalised"
    )
    edit: Literal["scale_head"] = "scale_head"
    factor: float

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """[B, S, H, D] with some heads multiplied."""
        return _scaled(value, self.head, self.factor, self.where(rows))


class MaskHead(HeadEdit):
    """Set the output of attention heads to 0."""

    semantics: ClassVar[str] = (
        "the output of attention {head} is 0 before the output projection; nothing is renormalised"
    )
    edit: Literal["mask_head"] = "mask_head"

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """[B, S, H, D] with some heads 0."""
        return _scaled(value, self.head, 0.0, self.where(rows))


def _scaled(value: Tensor, heads: tuple[int, ...], factor: float, where: Tensor | None) -> Tensor:
    scale = torch.ones(value.shape[2], dtype=value.dtype, device=value.device)
    scale[list(heads)] = factor
    return blend(where, value * scale[:, None], value)


def _of_rows(where: Tensor | None, rows: Tensor) -> Tensor | None:
    """[n], the values of tokens [B, S] for the rows of an expert."""
    return None if where is None else where.reshape(-1)[rows]
