"""The spans of a forward pass: what is open while the value of a site is made."""

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mixtral_probe.model import ForwardContext, Instrument, Site
from tests.support.instruments import IDS, run
from tests.support.models import toy_model

IN_A_LAYER = [
    "attention_input", "attention_output", ["query", "key", "value", "head_output"],
    "router_input", "moe_output", ["router_logits", "routing"],
]  # fmt: skip


class Spans(Instrument):
    """Notes what opens and closes."""

    def __init__(self) -> None:
        self.root: list[Any] = []
        self._open = [self.root]

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        raise AssertionError("nothing was wanted")

    @contextmanager
    def span(self, site: Site, layer: int, expert: int | None):
        inside: list[Any] = []
        self._open[-1].append(((site, layer, expert), inside))
        self._open.append(inside)
        yield
        assert self._open.pop() is inside


def of_a_layer(inside, layer):
    """Site names in their order, what lies inside one as a list after it; experts apart."""
    names, experts = [], []
    for (site, own_layer, expert), more in inside:
        assert own_layer == layer
        if site is Site.EXPERT_OUTPUT:
            assert not more
            experts.append(expert)
            continue
        assert expert is None
        names.append(str(site))
        held, some = of_a_layer(more, layer)
        names += [held] if held else []
        experts += some
    return names, experts


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_spans_open_and_close_around_every_site_in_its_layer(numerics):
    model, spans = toy_model(numerics=numerics), Spans()
    out = run(model, spans, output_router_logits=True)
    places = [key for key, _ in spans.root]
    assert places == [
        (Site.EMBEDDING, -1, None), (Site.RESIDUAL, 0, None), (Site.RESIDUAL, 1, None), (Site.LOGITS, -1, None),
    ]  # fmt: skip
    for (_, layer, _), inside in spans.root[1:3]:
        names, experts = of_a_layer(inside, layer)
        assert names == IN_A_LAYER
        chosen = out.router_logits[layer].topk(3).indices.unique().tolist()
        assert experts == chosen


def test_timing_changes_no_number():
    model = toy_model()
    assert torch.equal(run(model).logits, run(model, Spans()).logits)


def test_several_timers_each_have_their_spans():
    model, first, second = toy_model(), Spans(), Spans()
    run(model, first, second)
    assert first.root == second.root != []


def test_a_layer_that_runs_again_for_its_gradient_is_timed_once():
    model, spans = toy_model().train(), Spans()
    model.gradient_checkpointing_enable()
    model(IDS, labels=IDS, instruments=[spans]).loss.backward()
    assert [key[0] for key, _ in spans.root] == [Site.EMBEDDING, Site.RESIDUAL, Site.RESIDUAL, Site.LOGITS]
