"""What ``forward`` takes and gives: masks, positions, embeddings, outputs, losses."""

from types import SimpleNamespace

import pytest
import torch

from mixtral_probe import Instrument
from tests.support.models import different, everything, mask_of, ours_like, reference_model, toy_model, unpadded

IDS = torch.arange(27).reshape(3, 9).mul(7).remainder(50)
BOTH = pytest.mark.parametrize("numerics", ["reference", "fast"])
EVERYWHERE = torch.ones_like(IDS)
SMALLEST = torch.finfo(torch.float32).min
CAUSAL = torch.ones(9, 9, dtype=torch.bool).tril()


def four_dimensional(mask, heads=1):
    """[B, heads, S, S] bool: causal, without the padding of a mask [B, S]."""
    return (CAUSAL & mask[:, None, None, :].bool()).expand(-1, heads, -1, -1)


def additive(visible, blocked=SMALLEST):
    return torch.zeros(visible.shape).masked_fill(~visible, blocked)


def stack(model, given, padding):
    """Every output of the base model on what is no padding; transformers' head fails with four-dimensional masks."""
    with torch.no_grad():
        out = model.model(IDS, given, output_router_logits=True, output_attentions=True, output_hidden_states=True)
    names = ("hidden_states", "attentions", "router_logits")
    out = SimpleNamespace(logits=out.last_hidden_state, **{name: getattr(out, name) for name in names})
    return unpadded(out, padding)


@pytest.fixture(scope="module")
def theirs():
    return reference_model(router_aux_loss_coef=0.3)


# Masks


@BOTH
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("heads", [1, 4])
def test_masks_of_every_kind_equal_transformers(theirs, numerics, side, heads):
    """transformers adds a bool mask as 0 and 1 in its eager arithmetic; given the additive one it is right."""
    mask, ours = mask_of([9, 5, 2], 9, side), ours_like(theirs, numerics)
    visible = four_dimensional(mask, heads)
    expected = stack(theirs, mask, mask)
    assert different(stack(theirs, additive(visible), mask), expected) == []
    for given in (mask, mask.bool(), mask.float(), visible, additive(visible), additive(visible, -torch.inf)):
        found = stack(ours, given, mask)
        assert different(found, expected, 0 if numerics == "reference" else 1e-5) == []
    assert len(different(stack(theirs, visible, mask), expected, 1e-2)) > 1


@BOTH
def test_heads_may_have_masks_of_their_own(numerics):
    """Head 1 sees only the position itself, also where only some heads are shown."""
    visible = CAUSAL.repeat(1, 4, 1, 1)
    visible[:, 1] = torch.eye(9, dtype=torch.bool)
    model = toy_model(numerics=numerics)

    class Head(Instrument):
        def wants(self, site, layer):
            return site == "attention_weights"

        def heads(self, layer):
            return [1]

        def visit(self, site, layer, value, context):
            self.seen = value.weights[:, value.heads.index(1)]
            return value

    head = Head()
    with torch.no_grad():
        model(IDS, visible, instruments=[head])
    assert torch.equal(head.seen, torch.eye(9).expand(3, -1, -1))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("blocked", [-torch.inf, SMALLEST])
def test_rows_that_see_nothing_stay_finite(numerics, dtype, blocked):
    mask = additive(four_dimensional(mask_of([9, 1, 3], 9, "left")), blocked)
    out = everything(toy_model(numerics=numerics).to(dtype), IDS, mask)
    assert all(value.isfinite().all() for value in (out.logits, *out.hidden_states, *out.attentions))


# Positions


def test_explicit_positions_equal_transformers(theirs):
    positions = torch.arange(100, 109)[None]
    expected = everything(theirs, IDS, position_ids=positions, use_cache=False)
    for given in (positions, positions.expand(3, -1), positions.int()):
        found = everything(ours_like(theirs), IDS, position_ids=given)
        assert different(unpadded(found, EVERYWHERE), unpadded(expected, EVERYWHERE)) == []


@pytest.mark.parametrize("window", [None, 2])
@BOTH
def test_packed_sequences_do_not_see_each_other(numerics, window):
    """Three sequences in one row give what each gives alone, and what transformers gives without a cache."""
    theirs = reference_model(sliding_window=window)
    ours, lengths = ours_like(theirs, numerics), [4, 2, 3]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    out = everything(ours, IDS, position_ids=positions)
    assert out.past_key_values is None
    expected = everything(theirs, IDS, position_ids=positions, use_cache=False)
    tolerance = 0 if numerics == "reference" else 1e-5
    assert different(unpadded(out, EVERYWHERE), unpadded(expected, EVERYWHERE), tolerance) == []
    with torch.no_grad():
        alone = torch.cat([ours(part).logits for part in IDS.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(out.logits, alone, rtol=0, atol=1e-5)


def test_rows_may_be_packed_differently():
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 0, 1, 2, 3, 4], [5, 6, 7, 0, 1, 0, 0, 1, 2]])
    theirs = reference_model()
    expected = everything(theirs, IDS, position_ids=positions, use_cache=False)
    found = everything(ours_like(theirs), IDS, position_ids=positions)
    assert different(unpadded(found, EVERYWHERE), unpadded(expected, EVERYWHERE)) == []


def test_a_mask_says_who_sees_whom_whatever_the_positions(theirs):
    positions = torch.tensor([0, 1, 2, 0, 1, 2, 3, 4, 5])[None]
    expected = everything(theirs, IDS, EVERYWHERE, position_ids=positions)
    found = everything(ours_like(theirs), IDS, EVERYWHERE, position_ids=positions)
    assert different(unpadded(found, EVERYWHERE), unpadded(expected, EVERYWHERE)) == []


# Embeddings


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_whole_numbers_of_every_kind_are_ids_and_positions(dtype):
    model, positions = toy_model(), torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5]])
    with torch.no_grad():
        expected = model(IDS, position_ids=positions).logits
        assert torch.equal(model(IDS.to(dtype), position_ids=positions.to(dtype)).logits, expected)


@BOTH
def test_embeddings_in_place_of_ids(theirs, numerics):
    ours = ours_like(theirs, numerics)
    embeddings = ours.model.embed_tokens(IDS).detach()
    assert torch.equal(everything(ours, None, inputs_embeds=embeddings).logits, everything(ours, IDS).logits)


# Outputs


def same(found, expected):
    """Whether two tuples of outputs agree; of a cache only its place is compared."""
    assert [type(part) is tuple for part in found] == [type(part) is tuple for part in expected]
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, torch.Tensor | tuple):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    return True


def test_tuples_have_the_order_of_transformers(theirs):
    ours = ours_like(theirs)
    asked = {"use_cache": True, "output_attentions": True, "output_hidden_states": True, "return_dict": False}
    with torch.no_grad():
        found = ours(IDS, labels=IDS, output_router_logits=True, **asked)
        assert same(found, theirs(IDS, labels=IDS, output_router_logits=True, **asked))
        assert len(found) == 7
        for use_cache in (True, False):
            arguments = {"use_cache": use_cache, "return_dict": False}
            assert same(ours(IDS, **arguments), theirs(IDS, **arguments))
        found = ours.model(IDS, output_router_logits=True, **asked)
        last, cache, routers, hidden, attentions = theirs.model(IDS, output_router_logits=True, **asked)
    # Documented with the router logits last, as in transformers 4; 5.23 puts what it collects in another order.
    assert same(found, (last, cache, hidden, attentions, routers))


def test_the_config_decides_what_the_call_does_not():
    ids, plain = IDS[:1], toy_model()
    with torch.no_grad():
        out = plain(ids)
        assert len(out.past_key_values) == 9
        assert (out.attentions, out.hidden_states, out.router_logits, out.aux_loss) == (None, None, None, None)
        assert plain(ids, use_cache=False).past_key_values is None
        model = toy_model(use_cache=False, output_attentions=True, output_hidden_states=True, output_router_logits=True)
        out = model(ids)
        assert out.past_key_values is None
        assert [len(part) for part in (out.attentions, out.hidden_states, out.router_logits)] == [2, 3, 2]
        out = model(ids, output_attentions=False, output_hidden_states=False, output_router_logits=False)
        assert (out.attentions, out.hidden_states, out.router_logits, out.aux_loss) == (None, None, None, None)
        as_tuple = toy_model(return_dict=False)
        assert type(as_tuple(ids)) is tuple
        assert type(as_tuple.model(ids)) is tuple
        assert torch.equal(as_tuple(ids, return_dict=True).logits, as_tuple(ids)[0])


@BOTH
def test_attentions_of_chosen_layers_only(numerics):
    model = toy_model(numerics=numerics, num_hidden_layers=3)
    with torch.no_grad():
        whole = model(IDS, output_attentions=True).attentions
        for choice in ([1], [-2], (1,), 1, torch.tensor([1])):
            some = model(IDS, output_attentions=choice).attentions
            assert [part is None for part in some] == [True, False, True]
            assert torch.equal(some[1], whole[1])
        assert model(IDS, output_attentions=[]).attentions == (None, None, None)


def test_hidden_states_of_chosen_layers_as_in_transformers():
    theirs = reference_model(num_hidden_layers=3)
    ours = ours_like(theirs)
    with torch.no_grad():
        for choice in ([0], [1, -1], [2], 3, True):
            expected = theirs(IDS, output_hidden_states=choice).hidden_states
            found = ours(IDS, output_hidden_states=choice).hidden_states
            assert [part is None for part in found] == [part is None for part in expected]
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if a is not None)


def test_the_raw_output_of_the_last_layer():
    theirs = reference_model()
    raw = []
    theirs.model.layers[-1].register_forward_hook(lambda module, args, output: raw.append(output))
    ours = ours_like(theirs)
    with torch.no_grad():
        theirs(IDS)
        out = ours(IDS, output_hidden_states=True)
        assert torch.equal(out.last_layer_output, raw[0])
        assert torch.equal(ours.model.norm(out.last_layer_output), out.hidden_states[-1])
        assert ours(IDS, output_hidden_states=[0]).last_layer_output is None


def test_logits_of_some_positions(theirs):
    ours = ours_like(theirs)
    each = torch.tensor([[8, 0], [3, 3], [-1, 2]])
    with torch.no_grad():
        whole = ours(IDS).logits
        for keep in (0, 1, 4, 9, 50, torch.tensor([2, 0, -1]), torch.tensor([], dtype=torch.int64), each):
            expected, found = (
                theirs(IDS, logits_to_keep=keep % 9 if keep is each else keep).logits,
                ours(IDS, logits_to_keep=keep).logits,
            )
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert torch.equal(ours(IDS, logits_to_keep=each).logits, whole[torch.arange(3)[:, None], each % 9])


# Losses


@pytest.mark.parametrize("side", ["left", "right"])
def test_balance_loss_under_four_dimensional_masks(theirs, side):
    """transformers cannot; padding is what no query sees."""
    mask, ours = mask_of([9, 3, 5], 9, side), ours_like(theirs)
    expected = everything(theirs, IDS, mask).aux_loss
    for given in (four_dimensional(mask), additive(four_dimensional(mask, 4)), additive(four_dimensional(mask), -1e5)):
        assert abs(everything(ours, IDS, given).aux_loss - expected) < 1e-6
    shared = four_dimensional(mask[:1] * 0 + 1)
    assert abs(everything(ours, IDS, shared).aux_loss - everything(theirs, IDS).aux_loss) < 1e-6
    with pytest.raises(RuntimeError):
        everything(theirs, IDS, additive(four_dimensional(mask)))


@pytest.mark.parametrize("mask", [torch.zeros(3, 9), torch.zeros(3, 1, 9, 9, dtype=torch.bool)], ids=["2D", "4D"])
def test_balance_loss_of_nothing_is_zero(mask):
    assert everything(toy_model(), IDS, mask).aux_loss == 0


def test_balance_loss_with_a_cache_is_that_of_the_new_tokens(theirs):
    """transformers cannot."""
    ours, mask = ours_like(theirs), mask_of([9, 3, 7], 9, "left")
    whole = everything(ours, IDS, mask).router_logits
    with torch.no_grad():
        first = ours(IDS[:, :4], mask[:, :4])
        rest = ours(IDS[:, 4:], mask, past_key_values=first.past_key_values, output_router_logits=True)
    new = [logits.view(3, 9, 12)[:, 4:].reshape(-1, 12) for logits in whole]
    kept, chosen = mask[:, 4:].reshape(-1), []
    for logits in new:
        probabilities = logits.softmax(-1)
        chosen.append((torch.zeros_like(logits).scatter_(1, probabilities.topk(3).indices, 1.0), probabilities))
    share, mean = (torch.stack([pair[i][kept == 1].mean(0) for pair in chosen]).mean(0) for i in (0, 1))
    assert abs(rest.aux_loss - 12 * (share * mean).sum()) < 1e-5


def test_labels_and_logits_to_keep_must_fit(theirs):
    ours = ours_like(theirs)
    with torch.no_grad():
        for given in (IDS, IDS.masked_fill(IDS % 2 == 0, -100)):
            for routers in (False, True):
                expected = theirs(IDS, labels=given, output_router_logits=routers)
                found = ours(IDS, labels=given, output_router_logits=routers)
                assert abs(found.loss - expected.loss) < 1e-6
                assert (found.aux_loss is None) is not routers
        assert torch.equal(ours(IDS, labels=IDS, logits_to_keep=9).loss, ours(IDS, labels=IDS).loss)


# Sizes at their limits


@BOTH
@pytest.mark.parametrize("shape", [(0, 5), (3, 1), (2, 0), (0, 0)])
def test_empty_and_smallest_inputs(numerics, shape):
    model, ids = toy_model(numerics=numerics, sliding_window=2), torch.zeros(shape, dtype=torch.int64)
    for mask in (None, torch.ones(shape), torch.ones(shape[0], 1, shape[1], shape[1], dtype=torch.bool)):
        out = everything(model, ids, mask, labels=ids)
        assert out.logits.shape == (*shape, 50)
        assert len(out.attentions) == 2
        assert out.aux_loss.isfinite()
    positions = torch.zeros(shape, dtype=torch.int64)
    assert everything(model, ids, position_ids=positions, use_cache=False).logits.shape == (*shape, 50)
