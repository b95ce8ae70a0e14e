"""Edits of the choice: the experts of a token and their weights."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.edit import Edit, ExpertEdit, Ordered, blend
from mixtral_probe.instruments.edits.logits import refuse_masked
from mixtral_probe.instruments.edits.rows import Rows
from mixtral_probe.instruments.edits.seeds import generator
from mixtral_probe.model import Routing, Site
from mixtral_probe.model.moe import choose_experts


class ChoiceEdit(Edit):
    """An edit that replaces the choice of the router."""

    sites: ClassVar[tuple[Site, ...]] = (Site.ROUTING,)

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Change the choice where the conditions hold; a token with fewer experts than another is padded with −1."""
        new, where = self.choice(layer, value, rows), self.where(rows)
        if where is None:
            return new
        size = max(new.expert_ids.shape[1], value.expert_ids.shape[1])
        new, old = padded(new, size), padded(value, size)
        ids, weights = blend(where, new.expert_ids, old.expert_ids), blend(where, new.weights, old.weights)
        return replace(value, expert_ids=ids, weights=weights)

    def choice(self, layer: int, value: Routing, rows: Rows) -> Routing:
        """Return the choice of all tokens."""
        raise NotImplementedError


class TopK(ChoiceEdit):
    """Choose fewer or more experts."""

    semantics: ClassVar[str] = (
        "the {experts} most probable experts are chosen, and their weights are renormalised to sum to 1"
    )
    edit: Literal["top_k"] = "top_k"
    experts: int = Field(ge=1)
    """K after the edit."""

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit, and that a layer has as many experts."""
        super().check(config)
        if self.experts > config.num_local_experts:
            raise InputError(
                f"experts must be in 1–{config.num_local_experts} (the experts of a layer), got {self.experts}"
            )

    def most_experts(self, top_k: int) -> int:
        """Return the larger of both numbers."""
        return max(top_k, self.experts)

    def choice(self, layer: int, value: Routing, rows: Rows) -> Routing:
        """Choose again from the logits, as in the model."""
        routing = choose_experts(value.logits, self.experts, value.weights.dtype)
        refuse_masked(routing)
        return routing


class ForceExperts(ChoiceEdit):
    """Send tokens to experts of your choice, as many as the router would choose."""

    semantics: ClassVar[str] = (
        "every token goes to exactly {expert}, whatever the router prefers, with the softmax of their own "
        "router logits as weights, which sum to 1"
    )
    edit: Literal["force_experts"] = "force_experts"
    expert: Ordered

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit, and that the experts exist."""
        ExpertEdit(edit="expert", layer=self.layer, expert=self.expert).check(config)

    def choice(self, layer: int, value: Routing, rows: Rows) -> Routing:
        """Return the experts, strongest first."""
        if len(self.expert) != value.expert_ids.shape[1]:
            raise InputError(
                f"ForceExperts must name as many experts as a token has, {value.expert_ids.shape[1]}, got "
                f"{len(self.expert)}; put TopK({len(self.expert)}) before it for another number"
            )
        ids = torch.tensor(self.expert, device=value.expert_ids.device)
        logits, order = value.logits[:, ids].float().sort(dim=-1, descending=True, stable=True)
        routing = Routing(ids[order], F.softmax(logits, dim=-1).to(value.weights.dtype), value.logits)
        refuse_masked(routing)
        return routing


class SwapExperts(ChoiceEdit):
    """Exchange two experts after the router's choice."""

    semantics: ClassVar[str] = (
        "tokens sent to one of {expert} go to the other, with the weight the router gave; weights are kept"
    )
    edit: Literal["swap_experts"] = "swap_experts"
    expert: tuple[int, int]

    @model_validator(mode="after")
    def _two(self) -> "SwapExperts":
        if self.expert[0] == self.expert[1] or min(self.expert) < 0:
            raise ValueError("two different experts must be named")
        return self

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit, and that the experts exist."""
        ExpertEdit(edit="expert", layer=self.layer, expert=self.expert).check(config)

    def choice(self, layer: int, value: Routing, rows: Rows) -> Routing:
        """Return the choice with the two ids exchanged."""
        first, second = self.expert
        ids = value.expert_ids
        swapped = torch.where(ids == first, second, torch.where(ids == second, first, ids))
        return replace(value, expert_ids=swapped)


class RandomRouting(ChoiceEdit):
    """A placebo: the same load and weights, with experts exchanged between random tokens.

    The exchange depends on seed, layer, document and window alone, not on the batch. In a call of one token, as in
    generation, nothing is exchanged.
    """

    semantics: ClassVar[str] = (
        "a share of {share} of each document's tokens exchanges their experts and weights at random "
        "(seed {seed}), so that every expert keeps its load and all weights are kept"
    )
    edit: Literal["random_routing"] = "random_routing"
    share: float = Field(1.0, ge=0, le=1)
    """Share of the tokens that meet the conditions and take part in the exchange."""
    seed: int = 0

    def choice(self, layer: int, value: Routing, rows: Rows) -> Routing:
        """Return the choices of other tokens of the same window; only tokens that meet the conditions exchange."""
        size, where = rows.shape[1], self.where(rows)
        source = torch.arange(len(value.expert_ids))
        for row, (batch_row, places) in enumerate(rows.token_positions()):
            candidates = places if where is None else places[where[row, places]]
            candidates = candidates.cpu() + row * size
            draw = generator(self.seed, layer, batch_row, rows.context)
            part = candidates[torch.randperm(len(candidates), generator=draw)[: round(self.share * len(candidates))]]
            source[part] = part.roll(1)  # `part` is in random order, so a neighbour is a random token
        source = source.to(value.expert_ids.device)
        return replace(value, expert_ids=value.expert_ids[source], weights=value.weights[source])


def padded(routing: Routing, size: int) -> Routing:
    """Return the choice with ``size`` places for experts, the new ones empty: id −1, weight 0."""
    missing = size - routing.expert_ids.shape[1]
    ids, weights = F.pad(routing.expert_ids, (0, missing), value=-1), F.pad(routing.weights, (0, missing))
    return replace(routing, expert_ids=ids, weights=weights) if missing else routing


def strongest_first(ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids and weights [T, K], each row sorted by weight; equal weights keep their order."""
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    return ids.gather(1, order), ordered
