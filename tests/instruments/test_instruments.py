"""Sites, plans, the recorder and its copier."""

import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.instruments import HostCopier, Recorder, Window
from mixtral_probe.instruments.attention_packing import attention_sums, pack_attention
from mixtral_probe.model import AttentionSlice, Instrument, Routing, Site
from mixtral_probe.trace import AttentionPlan, TraceBuilder, TraceMeta, pack_triangle
from tests.support.instruments import IDS, Edit, Everything, run
from tests.support.models import toy_model


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_every_site_is_offered_in_order_with_its_shape(numerics):
    model = toy_model(numerics=numerics)  # C 24, H 4, H_kv 2, D 8, E 12, K 3, L 2, V 50
    everything = Everything()
    run(model, everything)
    shapes = {}
    for site, layer, value in everything.seen:
        if layer == 0 or site in (Site.EMBEDDING, Site.LOGITS):
            shapes.setdefault(site, value)
    assert list(shapes) == list(Site)
    expected = {
        Site.EMBEDDING: (2, 9, 24), Site.ATTENTION_INPUT: (2, 9, 24), Site.QUERY: (2, 4, 9, 8), Site.KEY: (2, 2, 9, 8),
        Site.VALUE: (2, 2, 9, 8), Site.HEAD_OUTPUT: (2, 9, 4, 8), Site.ATTENTION_OUTPUT: (2, 9, 24),
        Site.ROUTER_INPUT: (2, 9, 24), Site.ROUTER_LOGITS: (18, 12), Site.MOE_OUTPUT: (2, 9, 24),
        Site.RESIDUAL: (2, 9, 24), Site.LOGITS: (2, 9, 50),
    }  # fmt: skip
    assert {site: tuple(shapes[site].shape) for site in expected} == expected
    attention, routing = shapes[Site.ATTENTION_WEIGHTS], shapes[Site.ROUTING]
    assert isinstance(attention, AttentionSlice)
    assert attention.heads == (0, 1, 2, 3)
    assert attention.weights.shape == (2, 4, 9, 9)
    assert isinstance(routing, Routing)
    assert routing.expert_ids.shape == routing.weights.shape == (18, 3)


def test_every_expert_is_shown_also_an_idle_one_and_its_values_may_be_kept():
    model = toy_model()
    everything = Everything(Site.EXPERT_OUTPUT, Site.ROUTING, Site.MOE_OUTPUT)
    run(model, everything)
    slices = [value for site, layer, value in everything.seen if site is Site.EXPERT_OUTPUT and layer == 0]
    assert [part.expert for part in slices] == list(range(12))
    assert any(len(part.rows) == 0 for part in slices) or sum(len(part.rows) for part in slices) == 54
    routing = next(value for site, layer, value in everything.seen if site is Site.ROUTING and layer == 0)
    output = next(value for site, layer, value in everything.seen if site is Site.MOE_OUTPUT and layer == 0)
    by_hand = torch.zeros(18, 24)
    for part in slices:
        weight = (routing.weights * (routing.expert_ids == part.expert)).sum(1)
        by_hand[part.rows] += part.values * weight[part.rows, None]
    torch.testing.assert_close(by_hand, output.view(18, 24), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_looking_changes_nothing(numerics):
    model = toy_model(numerics=numerics)
    assert torch.equal(run(model).logits, run(model, Everything()).logits)


@pytest.mark.parametrize("site", [Site.RESIDUAL, Site.QUERY, Site.KEY, Site.VALUE, Site.HEAD_OUTPUT, Site.LOGITS,
                                  Site.ROUTER_LOGITS, Site.MOE_OUTPUT, Site.ATTENTION_OUTPUT, Site.EMBEDDING,
                                  Site.ROUTER_INPUT, Site.ATTENTION_INPUT])  # fmt: skip
def test_what_an_edit_returns_is_used(site):
    model = toy_model()
    edited = run(model, Edit(site, lambda value: value * torch.linspace(0.5, 2, value.shape[-1])))
    assert not torch.allclose(run(model).logits, edited.logits, atol=1e-3)


def test_a_router_edit_changes_the_choice_that_a_later_recorder_sees():
    model = toy_model()
    banned = torch.zeros(12).index_fill(0, torch.tensor([4]), -torch.inf)
    seen = Everything(Site.ROUTING, Site.ROUTER_LOGITS)
    run(model, Edit(Site.ROUTER_LOGITS, lambda logits: logits + banned), seen)
    for site, _, value in seen.seen:
        if site is Site.ROUTING:
            assert not (value.expert_ids == 4).any()
            torch.testing.assert_close(value.weights.sum(1), torch.ones(18))
        else:
            assert torch.isinf(value[:, 4]).all()


def test_edited_attention_weights_make_the_output():
    def only_self(shown: AttentionSlice) -> AttentionSlice:
        return AttentionSlice(shown.heads, torch.eye(9).expand_as(shown.weights))

    model = toy_model()
    seen = Everything(Site.HEAD_OUTPUT, Site.VALUE)
    run(model, Edit(Site.ATTENTION_WEIGHTS, only_self), seen)
    values = next(v for site, layer, v in seen.seen if site is Site.VALUE)  # [B, H_kv, S, D]
    output = next(v for site, layer, v in seen.seen if site is Site.HEAD_OUTPUT)  # [B, S, H, D]
    torch.testing.assert_close(output, values.repeat_interleave(2, dim=1).transpose(1, 2))


def test_attention_in_slices_equals_attention_at_once(monkeypatch):
    model = toy_model()
    whole = run(model, output_attentions=True).attentions
    monkeypatch.setattr("mixtral_probe.model.attention.weights.SLICE_ELEMENTS", 1)
    sliced = run(model, output_attentions=True).attentions
    assert all(torch.equal(a, b) for a, b in zip(whole, sliced, strict=True))
    eager = run(toy_model(numerics="reference"), output_attentions=True).attentions
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(sliced, eager, strict=True))


def test_two_threads_with_different_instruments_do_not_see_each_other():
    model = toy_model()
    expected = {scale: run(model, Edit(Site.ROUTER_LOGITS, lambda v, s=scale: v * s)).logits for scale in (-1.0, 1.0)}
    wrong: list[float] = []

    def work(scale: float) -> None:
        for _ in range(20):
            if not torch.equal(run(model, Edit(Site.ROUTER_LOGITS, lambda v: v * scale)).logits, expected[scale]):
                wrong.append(scale)

    threads = [threading.Thread(target=work, args=(scale,)) for scale in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not torch.equal(expected[-1.0], expected[1.0])


class LateCopier:
    """A device whose copies happen only at the end: whoever overwrites what it still has to copy is caught."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Tensor, Any]] = []

    def copy(self, value: Tensor, write: Any) -> None:
        self.waiting.append((value.detach(), write))

    def finish(self) -> None:
        for value, write in self.waiting:
            write(value.clone())
        self.waiting.clear()


def builder(attention: AttentionPlan | None = None) -> TraceBuilder:
    import pandas as pd

    meta = TraceMeta(num_layers=2, num_experts=12, num_experts_per_tok=3, num_heads=4)
    documents = pd.DataFrame({"document": [0, 1], "id": ["a", "b"]})
    tokens = pd.DataFrame({"document": [0] * 9 + [1] * 5, "token_id": [*IDS[0].tolist(), *IDS[1, :5].tolist()]})
    return TraceBuilder(documents, tokens, meta, attention=attention)


WINDOWS = [Window(0, 0, 0, 9), Window(1, 0, 9, 5)]


@pytest.mark.parametrize("copier", [HostCopier, LateCopier])
def test_the_recorder_writes_what_the_forward_pass_returned(copier):
    model = toy_model()
    plan = AttentionPlan({0: (1, 3), 1: (0, 1, 2, 3)})
    made = builder(plan)
    recorder = Recorder(made, WINDOWS, 9, copier())
    out = run(model, recorder, output_router_logits=True, output_attentions=True)
    recorder.finish()
    made.mark_done([0, 1])
    trace = made.finish()
    rows = torch.cat([torch.arange(9), torch.arange(9, 14)])
    for layer in range(2):
        logits = out.router_logits[layer][rows].numpy()
        assert np.array_equal(trace.router_logits[layer], logits)
        assert np.array_equal(trace.expert_ids[layer], np.argsort(-logits, axis=1)[:, :3])
        chosen = np.take_along_axis(logits, trace.expert_ids[layer].astype(int), 1).astype(np.float64)
        softmax = np.exp(chosen) / np.exp(chosen).sum(1, keepdims=True)
        np.testing.assert_allclose(trace.expert_weights[layer], softmax, atol=1e-6)
        for document, length in ((0, 9), (1, 5)):
            heads = list(plan.layers[layer])
            expected = out.attentions[layer][document, heads, :length, :length].half().float().numpy()
            assert np.array_equal(trace.attention(document, layer), expected)
    assert trace.attention_sums["tokens"].tolist() == [[9, 5], [9, 5]]
    sink = out.attentions[1][1, 2, :5, 0].sum().item()
    assert trace.attention_sums["sink"][1, 1, 2] == pytest.approx(sink, abs=1e-5)
    assert np.isnan(trace.attention_sums["sink"][0, 0, 0])


def test_attention_sums_by_hand():
    weights = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]])
    sums = attention_sums(pack_attention(weights), 3, 3)
    assert sums["entropy_bits"].item() == pytest.approx(0 + 1 + 1.5)
    assert sums["distance"].item() == pytest.approx(0 + 0.5 + (0.25 * 2 + 0.25 * 1))
    assert sums["sink"].item() == pytest.approx(1.75)


def test_attention_sums_of_the_last_query_alone():
    weights = torch.tensor([[[0.25, 0.25, 0.5]]])
    sums = attention_sums(pack_attention(weights), 1, 3)
    assert pack_attention(weights).tolist() == [[0.25, 0.25, 0.5]]
    assert sums["entropy_bits"].item() == pytest.approx(1.5)
    assert sums["distance"].item() == pytest.approx(0.75)
    assert sums["sink"].item() == pytest.approx(0.25)


def test_attention_sums_of_a_long_window_are_those_of_exact_arithmetic():
    size, unit = 2048, 2**24
    parts = torch.randint(1, 2**14, (2, size, size), generator=torch.Generator().manual_seed(0))
    sums = attention_sums(pack_attention(parts / unit), size, size)
    parts, place = parts.numpy(), np.arange(size)
    behind = place[:, None] - place
    for head in range(2):
        seen = parts[head][np.tri(size, dtype=bool)]
        # Weights are whole numbers / 2^24, so that integers give the sums without rounding.
        exact = int((parts[head] * np.maximum(behind, 0)).sum())
        assert sums["distance"][head].item() * unit == pytest.approx(exact, rel=1e-13)
        assert sums["sink"][head].item() * unit == int(parts[head, :, 0].sum())
        entropy = -math.fsum(seen / unit * np.log2(seen / unit))
        assert sums["entropy_bits"][head].item() == pytest.approx(entropy, rel=1e-7)


def test_packed_triangle_is_the_layout_of_the_trace():
    weights = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(pack_attention(weights).numpy(), pack_triangle(weights.numpy()))


def test_an_instrument_is_asked_once_per_call_and_nothing_stays_on_the_model():
    model = toy_model()
    everything = Everything()
    before = dict(model.__dict__), len(model._forward_hooks)
    run(model, everything)
    seen = len(everything.seen)
    run(model)
    assert len(everything.seen) == seen
    assert (dict(model.__dict__), len(model._forward_hooks)) == before


def test_an_instrument_that_overrides_nothing_changes_nothing():
    model, plain = toy_model(), Instrument()
    assert torch.equal(run(model, plain).logits, run(model).logits)
    assert not any(plain.wants(site, layer) for site in Site for layer in (-1, 0))
    assert plain.heads(0) is None
    with plain.span(Site.RESIDUAL, 0):
        pass


def test_declared_sites_are_visited_in_every_layer():
    class Residuals(Instrument):
        sites = (Site.RESIDUAL,)

        def visit(self, site, layer, value, context):
            seen.append((site, layer))
            return value

    seen = []
    run(toy_model(), Residuals())
    assert seen == [(Site.RESIDUAL, 0), (Site.RESIDUAL, 1)]


def test_what_only_looks_like_an_instrument_is_refused():
    class Duck:
        def wants(self, site, layer):
            return False

    with pytest.raises(InputError, match=r"must be a subclass of mixtral_probe.Instrument, got a Duck; derive its"):
        run(toy_model(), Duck())
