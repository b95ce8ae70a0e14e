"""Instruments that record or change a site, and a forward call under edits."""

from typing import Any

import torch

from mixtral_probe.model import ForwardContext, Instrument, Site

IDS = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(0))
"""[B, S] token ids of the toy model."""


class Everything(Instrument):
    """Keeps what every site showed."""

    def __init__(self, *sites: Site) -> None:
        self.sites, self.seen = sites or tuple(Site), []

    def wants(self, site: Site, layer: int) -> bool:
        return site in self.sites

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        self.seen.append((site, layer, value))
        return value


class Edit(Instrument):
    """Changes one site by a function."""

    edits_attention = True

    def __init__(self, site: Site, change: Any) -> None:
        self.site, self.change = site, change

    def wants(self, site: Site, layer: int) -> bool:
        return site is self.site

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        return self.change(value)


def run(model: Any, *instruments: Any, ids: torch.Tensor = IDS, **arguments: Any) -> Any:
    """The output of one forward call."""
    with torch.inference_mode():
        return model(ids, instruments=instruments, **arguments)


def logits(model: Any, *instruments: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """[B, S, V] logits of one forward call."""
    return run(model, *instruments, ids=ids).logits
