"""The placebo of an edit while text is generated: as many assignments of random new tokens are damaged alike."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.instruments.placebo import DamageAssignments
from mixtral_probe.model import ForwardContext, Instrument, Site


@dataclass
class GeneratedDamage(Instrument):
    """Damages the assignments of some ranks of the tokens generated at some steps, in one layer.

    The prompt stays as it is. Several draws are rows of one call.
    """

    damage: DamageAssignments
    """How, and in which layer; its assignments are replaced at each step."""
    ranks: Tensor
    """[n, B, K] bool, the ranks damaged in each row when the token after n − 1 new ones is fed."""
    _chosen: Tensor = field(default_factory=lambda: torch.empty(0))

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for the router's logits, which say what would be chosen, and the site of the damage."""
        return layer == self.damage.layer and (site is Site.ROUTER_LOGITS or self.damage.wants(site, layer))

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Return the value without the damaged assignments."""
        if context.phase == "prefill" or context.step > len(self.ranks):
            return value
        if site is Site.ROUTER_LOGITS:
            self._chosen = value.topk(self.ranks.shape[-1], dim=-1).indices
        ranks = self.ranks[context.step - 1].to(self._chosen.device)
        damaged = torch.zeros(len(ranks), self.damage.damaged.shape[1], dtype=torch.bool, device=ranks.device)
        damaged.scatter_(1, self._chosen, ranks)
        now = replace(self.damage, damaged=damaged)
        return now.visit(site, layer, value, context) if now.wants(site, layer) else value


@dataclass(frozen=True)
class InPrompt(Instrument):
    """Another instrument, while the prompt is read."""

    instrument: Instrument

    def wants(self, site: Site, layer: int) -> bool:
        """Return what the instrument wants."""
        return self.instrument.wants(site, layer)

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Return the changed value while the prompt is read, else the value."""
        return self.instrument.visit(site, layer, value, context) if context.phase == "prefill" else value
