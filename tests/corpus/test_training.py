"""Gradients through everything, against transformers and against ourselves by another way."""

from dataclasses import replace

import pytest
import torch
import transformers

import mixtral_probe as mp
from mixtral_probe import InputError, MixtralConfig
from mixtral_probe.model import Instrument, KVCache, Site, load_balancing_loss
from tests.support.models import TOY, mask_of, ours_like, reference_model, toy_model

IDS = torch.arange(27).reshape(3, 9).mul(7).remainder(50)
NOISE = {"router_jitter_noise": 0.2, "attention_dropout": 0.3, "router_aux_loss_coef": 0.5}


def gradients(model, seed=0, labels=IDS, **arguments):
    """Every gradient of the combined loss of one training step."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = model(IDS, labels=labels, output_router_logits=True, **arguments).loss
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def far_apart(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("side", [None, "left", "right"])
def test_noise_and_gradients_are_those_of_transformers(checkpointing, side):
    """The same seed draws the same jitter and dropout, so a whole training step can be compared."""
    theirs = reference_model(**NOISE).train()
    ours = ours_like(theirs).train()
    if checkpointing:
        ours.gradient_checkpointing_enable()
    mask = None if side is None else mask_of([9, 4, 6], 9, side)
    torch.manual_seed(3)
    expected = theirs(IDS, attention_mask=mask, labels=IDS, output_router_logits=True)
    expected.loss.backward()
    other = {name.replace(".mlp.", ".block_sparse_moe."): p.grad for name, p in theirs.named_parameters()}
    assert far_apart(gradients(ours, 3, attention_mask=mask), other) < 1e-6
    torch.manual_seed(3)
    assert abs(ours(IDS, mask, labels=IDS, output_router_logits=True).loss - expected.loss) < 1e-6


@pytest.mark.parametrize("numerics", ["reference", "fast"])
@pytest.mark.parametrize("fields", [{}, NOISE], ids=["plain", "noise"])
@pytest.mark.parametrize("side", [None, "left"])
def test_checkpointing_changes_no_gradient(numerics, fields, side):
    model = toy_model(numerics=numerics, **fields).train()
    mask = None if side is None else mask_of([9, 4, 6], 9, side)
    plain = gradients(model, attention_mask=mask)
    model.gradient_checkpointing_enable()
    assert same(gradients(model, attention_mask=mask), plain)
    model.gradient_checkpointing_disable()
    assert same(gradients(model, attention_mask=mask), plain)


def test_checkpointing_really_runs_layers_again_and_only_in_training():
    model = toy_model().train()
    model.gradient_checkpointing_enable()
    calls = []
    model.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    loss = model(IDS, labels=IDS).loss
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == 2
    model.eval()
    model(IDS, labels=IDS).loss.backward()
    assert len(calls) == 3
    with torch.no_grad():
        model.train()(IDS)
    assert len(calls) == 4


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_balance_loss_alone_has_its_gradient(checkpointing):
    """By finite differences; the choice of experts is constant nearby."""
    model = toy_model().train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    model(IDS, output_router_logits=True).aux_loss.backward()
    for layer, (row, column) in ((0, (3, 5)), (1, (7, 0))):
        weight = model.model.layers[layer].block_sparse_moe.gate.weight
        values = []
        for step in (1e-3, -2e-3):
            with torch.no_grad():
                weight[row, column] += step
            values.append(model(IDS, output_router_logits=True).aux_loss.item())
        with torch.no_grad():
            weight[row, column] += 1e-3
        assert abs(weight.grad[row, column]) > 0.01
        assert abs((values[0] - values[1]) / 2e-3 - weight.grad[row, column]) < 1e-3


def test_losses_of_ones_own_see_router_logits_of_checkpointed_layers():
    model = toy_model().train()

    def step():
        model.zero_grad()
        out = model(IDS, output_router_logits=True)
        load_balancing_loss(out.router_logits, 3).backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    plain = step()
    model.gradient_checkpointing_enable()
    assert same(step(), plain)
    assert plain["model.layers.0.block_sparse_moe.gate.weight"].any()


class Watcher(Instrument):
    """Counts visits, and draws nothing."""

    def __init__(self):
        self.visits = []

    def wants(self, site, layer):
        return True

    def visit(self, site, layer, value, context):
        self.visits.append((str(site), layer))
        return value


class Halve(Instrument):
    """An edit of each kind: a tensor, routing weights, an expert's rows, attention, and one written in place."""

    edits_attention = True

    def __init__(self):
        self.visits = 0
        self.factor = torch.tensor(0.5, requires_grad=True)

    def wants(self, site, layer):
        return site in (Site.HEAD_OUTPUT, Site.ROUTING, Site.EXPERT_OUTPUT, Site.ATTENTION_WEIGHTS, Site.MOE_OUTPUT)

    def visit(self, site, layer, value, context):
        self.visits += 1
        if site is Site.ROUTING:
            return replace(value, weights=value.weights * self.factor)
        if site in (Site.EXPERT_OUTPUT, Site.ATTENTION_WEIGHTS):
            parts = {name: getattr(value, name) for name in value.__slots__}
            last = "values" if site is Site.EXPERT_OUTPUT else "weights"
            return type(value)(**parts | {last: parts[last].sin() * self.factor})
        if site is Site.MOE_OUTPUT:
            return value.mul_(0.5)
        return value * self.factor


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_instruments_are_visited_once_and_their_edits_kept(numerics):
    model, watcher, edit = toy_model(numerics=numerics, **NOISE).train(), Watcher(), Halve()
    plain = gradients(model, instruments=(watcher, edit))
    visits, edits, slope = watcher.visits, edit.visits, edit.factor.grad.clone()
    model.gradient_checkpointing_enable()
    watcher.visits, edit.visits, edit.factor.grad = [], 0, None
    found = gradients(model, instruments=(watcher, edit))
    assert (watcher.visits, edit.visits) == (visits, edits)
    assert same(found, plain)
    assert torch.equal(edit.factor.grad, slope)
    assert slope != 0


def test_two_backward_passes_through_one_graph():
    model = toy_model(**NOISE).train()
    model.gradient_checkpointing_enable()
    torch.manual_seed(0)
    loss = model(IDS, labels=IDS, instruments=(Halve(),)).loss
    loss.backward(retain_graph=True)
    first = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    loss.backward()
    assert all(torch.allclose(weight.grad, 2 * first[name], rtol=1e-6) for name, weight in model.named_parameters())


def test_nothing_is_left_behind_by_a_checkpointed_call():
    """What an edit returned is kept for the second run; it must not hold its own graph and so never die."""
    import gc
    import weakref

    model = toy_model().train()
    model.gradient_checkpointing_enable()
    out = model(IDS, labels=IDS, instruments=(Halve(),))
    out.loss.backward()
    alive = weakref.ref(out.logits)
    del out
    gc.collect()
    assert alive() is None


def test_a_cache_and_checkpointing_do_not_go_together():
    model = toy_model().train()
    model.gradient_checkpointing_enable()
    for arguments in ({"use_cache": True}, {"past_key_values": KVCache()}):
        with pytest.raises(InputError, match="runs each layer twice and must not have a cache, got one"):
            model(IDS, **arguments)
    assert model(IDS).past_key_values is None
    assert len(model.eval()(IDS, use_cache=True).past_key_values) == 9


def test_jitter_reaches_router_and_experts_and_only_in_training():
    model, noisy = toy_model(), toy_model(router_jitter_noise=0.3)
    assert torch.equal(model(IDS).logits, noisy(IDS).logits)

    class Inputs(Instrument):
        def __init__(self):
            self.seen = {}

        def wants(self, site, layer):
            return layer == 0 and site in (Site.ROUTER_INPUT, Site.ROUTER_LOGITS)

        def visit(self, site, layer, value, context):
            self.seen[site] = value
            return value

    look = Inputs()
    noisy.train()(IDS, instruments=(look,))
    gate = noisy.model.layers[0].block_sparse_moe.gate.weight
    rows = look.seen[Site.ROUTER_INPUT].flatten(0, 1)
    moved = (look.seen[Site.ROUTER_LOGITS] - rows @ gate.T).abs()
    assert 1e-3 < moved.max() <= (0.3 * rows.abs() @ gate.abs().T).max()


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_attention_dropout_keeps_the_mean_and_only_in_training(numerics):
    model, dropping = toy_model(numerics=numerics), toy_model(numerics=numerics, attention_dropout=0.5)
    ids = IDS[:1]
    assert torch.equal(model(ids).logits, dropping(ids).logits)
    layer = dropping.model.layers[0].self_attn
    seen = []
    layer.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    torch.manual_seed(0)
    with torch.no_grad():
        dropping(ids)
        dropping.train()
        for _ in range(400):
            dropping.model(ids)
    draws = torch.stack(seen[1:])
    assert draws.std(0).max() > 0.05
    error = (draws.mean(0) - seen[0]).abs() / (draws.std(0) / 400**0.5 + 1e-6)
    assert error.max() < 5


@pytest.mark.parametrize("numerics", ["reference", "fast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("side", [None, "left", "right"])
def test_mixed_precision(numerics, dtype, checkpointing, side):
    model = toy_model(numerics=numerics, **NOISE).train()
    mask = None if side is None else mask_of([9, 4, 1], 9, side)
    labels = IDS.clone()
    if mask is not None:  # and what padding would predict: a row that sees nothing has no exact attention
        labels[(mask == 0) | (mask.cumsum(1) == 1)] = -100
    plain = gradients(model, attention_mask=mask, labels=labels)
    if checkpointing:
        model.gradient_checkpointing_enable()
    with torch.autocast("cpu", dtype):
        low = gradients(model, attention_mask=mask, labels=labels)
    assert low.keys() == plain.keys()
    assert all(grad.dtype is torch.float32 and grad.isfinite().all() for grad in low.values())
    together = [torch.cat([grads[name].flatten() for name in plain]) for grads in (low, plain)]
    assert torch.cosine_similarity(*together, dim=0) > 0.95


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_mixed_precision_where_buffers_are_reused(numerics):
    model = toy_model(numerics=numerics)
    with torch.inference_mode():
        plain = model(IDS).logits
        with torch.autocast("cpu", torch.bfloat16):
            low = model(IDS).logits
    assert low.dtype is torch.bfloat16
    assert (low.float() - plain).abs().median() < 0.02 * plain.std()  # a row near a tie may go to another expert


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_whole_models_in_low_precision_have_finite_gradients(dtype):
    model = toy_model().to(dtype).train()
    low = gradients(model, attention_mask=mask_of([9, 4, 1], 9, "left"))
    assert all(grad.dtype is dtype and grad.isfinite().all() for grad in low.values())


@pytest.mark.parametrize("kind", ["SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_heads_train(kind):
    fields = TOY | {"pad_token_id": 0, "router_aux_loss_coef": 0.3, "classifier_dropout": 0.2}
    rope = {"rope_type": "default", "rope_theta": fields.pop("rope_theta")}
    theirs = getattr(transformers, f"MixtralFor{kind}")._from_config(
        transformers.MixtralConfig(**fields, rope_parameters=rope),
        attn_implementation="eager", experts_implementation="eager",
    ).train()  # fmt: skip
    ours = getattr(mp, f"MixtralFor{kind}")(MixtralConfig.from_dict(theirs.config.to_dict()), "reference").train()
    ours.load_state_dict(theirs.state_dict())
    labels = {"labels": torch.tensor([0, 1, 1]) if kind[0] == "S" else IDS.remainder(2)}
    if kind[0] == "Q":
        labels = {"start_positions": torch.tensor([1, 2, 0]), "end_positions": torch.tensor([4, 2, 8])}
    found = []
    for model in (theirs, ours):
        torch.manual_seed(1)
        model(IDS, **labels).loss.backward()
        found.append({n.replace(".mlp.", ".block_sparse_moe."): p.grad for n, p in model.named_parameters()})
    assert far_apart(*found) < 1e-6

    ours.zero_grad()
    torch.manual_seed(1)
    ours(IDS, output_router_logits=True, **labels).loss.backward()
    plain = {name: weight.grad.clone() for name, weight in ours.named_parameters()}
    assert far_apart(plain, found[0]) > 1e-6  # the balance loss is in it
    ours.gradient_checkpointing_enable()
    ours.zero_grad()
    torch.manual_seed(1)
    ours(IDS, output_router_logits=True, **labels).loss.backward()
    assert same({name: weight.grad for name, weight in ours.named_parameters()}, plain)


def test_a_step_lowers_the_loss():
    model = toy_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = model(IDS, labels=IDS, output_router_logits=True).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.5
