"""Runs in pieces with a cache: equal to one run, whatever the window, the padding and the place of the cut."""

import pytest
import torch

from mixtral_probe import InputError
from mixtral_probe.model import Instrument, KVCache
from tests.support.models import everything, mask_of, ours_like, reference_model, toy_model
from tests.support.rope import rope_of

IDS = torch.arange(27).reshape(3, 9).mul(7).remainder(50)
MASKS = {"none": None, "left": mask_of([9, 5, 2], 9, "left"), "right": mask_of([9, 5, 2], 9, "right")}
BOTH = pytest.mark.parametrize("numerics", ["reference", "fast"])
WINDOWS = pytest.mark.parametrize("window", [None, 1, 2, 3, 4, 5])
PADDED = pytest.mark.parametrize("side", MASKS)


def in_pieces(model, sizes, mask=None, **more):
    """Logits and router logits of a run cut into pieces, [3, 9, …] on every row."""
    cache, logits, routers, done = None, [], [], 0
    with torch.no_grad():
        for size in sizes:
            done += size
            piece = IDS[:, done - size : done]
            given = {} if mask is None else {"attention_mask": mask[:, :done]}
            out = model(piece, past_key_values=cache, use_cache=True, output_router_logits=True, **given, **more)
            cache = out.past_key_values
            logits.append(out.logits)
            routers.append(torch.stack([layer.view(3, size, -1) for layer in out.router_logits], dim=2))
    return torch.cat(logits, dim=1), torch.cat(routers, dim=1), cache


@BOTH
@WINDOWS
@PADDED
def test_every_cut_gives_what_one_run_gives(numerics, window, side):
    model, mask = toy_model(numerics=numerics, sliding_window=window), MASKS[side]
    kept = torch.ones(3, 9, dtype=torch.bool) if mask is None else mask.bool()
    whole = everything(model, IDS, mask)
    routers = torch.stack([layer.view(3, 9, -1) for layer in whole.router_logits], dim=2)
    for sizes in [(n, 9 - n) for n in range(1, 9)] + [(1,) * 9, (4, 3, 2), (2, 1, 6)]:
        logits, pieces, cache = in_pieces(model, sizes, mask)
        assert torch.allclose(logits[kept], whole.logits[kept], rtol=0, atol=1e-5), sizes
        assert torch.allclose(pieces[kept], routers[kept], rtol=0, atol=1e-5), sizes
        assert (len(cache), cache.calls, cache.batch_size) == (9, len(sizes), 3)


def transformers_in_pieces(theirs, sizes, mask=None):
    logits, cache, done = [], None, 0
    with torch.no_grad():
        for size in sizes:
            done += size
            given = {} if mask is None else {"attention_mask": mask[:, :done]}
            out = theirs(IDS[:, done - size : done], past_key_values=cache, use_cache=True, **given)
            cache = out.past_key_values
            logits.append(out.logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("window", [None, 2, 3, 4, 5])
@PADDED
def test_pieces_equal_those_of_transformers(window, side):
    """To the bit without a window; with one, transformers drops keys where we hide them, and adds in another order."""
    theirs, mask = reference_model(sliding_window=window), MASKS[side]
    kept = torch.ones(3, 9, dtype=torch.bool) if mask is None else mask.bool()
    for sizes in ((4, 1, 1, 1, 1, 1), (1, 5, 3)):
        found, expected = in_pieces(ours_like(theirs), sizes, mask)[0], transformers_in_pieces(theirs, sizes, mask)
        assert (found[kept] - expected[kept]).abs().max() <= (0 if window is None else 1e-6)


def test_a_window_of_one_with_a_cache_where_transformers_fails():
    """transformers 5.23 then keeps all keys in place of none, and its pieces are not what its one run gives."""
    theirs = reference_model(sliding_window=1)
    whole, sizes = everything(theirs, IDS).logits, (4, 1, 1, 1, 1, 1)
    assert (transformers_in_pieces(theirs, sizes) - whole).abs().max() > 0.1
    assert torch.allclose(in_pieces(ours_like(theirs), sizes)[0], whole, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
def test_a_window_shows_that_many_keys_in_every_piece(numerics, window):
    """A cache of W keys where W − 1 are right, or the reverse, would show; one column stands for every position."""
    model, cache = toy_model(numerics=numerics, sliding_window=window), KVCache()
    with torch.no_grad():
        for size in (4, 1, 2, 1, 1):
            past = len(cache)
            out = model(IDS[:, past : past + size], past_key_values=cache, output_attentions=True)
            for weights in out.attentions:
                assert weights.shape == (3, 4, size, past + size)
                seen = (weights > 0).sum(-1)
                assert torch.equal(seen, torch.arange(past + 1, past + size + 1).clamp(max=window).expand(3, 4, size))


@pytest.mark.parametrize("name", ["default", "linear", "yarn", "llama3", "dynamic", "longrope"])
def test_pieces_with_scaled_positions(name):
    """dynamic and longrope too, up to the length where their frequencies change; keys turned before keep theirs."""
    rope = rope_of(name, 8) | ({"original_max_position_embeddings": 9} if name == "longrope" else {})
    model = toy_model(max_position_embeddings=64, rope_parameters=rope)
    assert torch.allclose(in_pieces(model, (4, 1, 4))[0], everything(model, IDS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dynamic", "longrope"])
def test_growing_beyond_the_limit_equals_transformers(name):
    rope = rope_of(name, 8) | ({"original_max_position_embeddings": 5} if name == "longrope" else {})
    theirs = reference_model(max_position_embeddings=5, rope_parameters=rope)
    logits, cache = [], None
    with torch.no_grad():
        for position in range(9):
            out = theirs(IDS[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits.append(out.logits)
    assert torch.equal(in_pieces(ours_like(theirs), (1,) * 9)[0], torch.cat(logits, dim=1))


@BOTH
def test_four_dimensional_masks_and_positions_with_a_cache(numerics):
    model, mask = toy_model(numerics=numerics), MASKS["left"]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    visible = torch.ones(9, 9, dtype=torch.bool).tril() & mask[:, None, None, :].bool()
    with torch.no_grad():
        whole = model(IDS, mask, positions).logits
        first = model(IDS[:, :6], visible[:, :, :6, :6], positions[:, :6])
        rest = model(IDS[:, 6:], visible[:, :, 6:], positions[:, 6:], past_key_values=first.past_key_values)
    logits = torch.cat((first.logits, rest.logits), dim=1)
    assert torch.allclose(logits[mask.bool()], whole[mask.bool()], rtol=0, atol=1e-5)


def test_router_logits_attentions_and_states_at_every_step():
    """transformers raises at the first step when router logits and a mask come with a cache."""
    model, mask = toy_model(), MASKS["left"]
    cache = KVCache()
    with torch.no_grad():
        for position in range(9):
            ids, seen = IDS[:, position : position + 1], mask[:, : position + 1]
            out = everything(model, ids, seen, past_key_values=cache)
            assert [logits.shape for logits in out.router_logits] == [(3, 12)] * 2
            assert [weights.shape for weights in out.attentions] == [(3, 4, 1, position + 1)] * 2
            assert out.aux_loss.isfinite()
    theirs = reference_model()
    first = theirs(IDS[:, :8], mask[:, :8], use_cache=True)
    with pytest.raises(RuntimeError):
        theirs(IDS[:, 8:], mask, past_key_values=first.past_key_values, output_router_logits=True)


@BOTH
def test_a_reordered_cache_goes_on_as_its_rows(numerics):
    model, rows = toy_model(numerics=numerics), torch.tensor([2, 2, 0, 1])
    with torch.no_grad():
        cache = model(IDS[:, :5], use_cache=True).past_key_values
        expected = model(IDS[:, 5:], past_key_values=cache.copy()).logits[rows]
        cache.reorder(rows)
        found = model(IDS[rows, 5:], past_key_values=cache).logits
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("window", [None, 2])
def test_a_cropped_cache_goes_on_from_there(numerics, window):
    """Also with a window, where transformers cannot go back."""
    model = toy_model(numerics=numerics, sliding_window=window)
    with torch.no_grad():
        whole = model(IDS, use_cache=True)
        cache = whole.past_key_values
        for length in (9, 8, 5, 3, 0):
            cache.crop(length)
            assert len(cache) == length
            if length < 9:
                again = model(IDS[:, length:], past_key_values=cache.copy()).logits
                assert torch.allclose(again, whole.logits[:, length:], rtol=0, atol=1e-5)


def test_copies_of_a_cache_go_their_own_ways():
    model = toy_model()
    with torch.no_grad():
        cache = model(IDS[:, :5], use_cache=True).past_key_values
        twin = cache.copy()
        first = model(IDS[:, 5:], past_key_values=cache).logits
        model(IDS[:, 5:7].flip(1), past_key_values=twin)
        assert (len(cache), len(twin), cache.calls, twin.calls) == (9, 7, 2, 2)
        twin.crop(5)
        assert torch.equal(model(IDS[:, 5:], past_key_values=twin).logits, first)


def test_gradients_pass_through_a_cache():
    """The loss of the second piece has the gradient it has in one run."""
    model = toy_model()
    model(IDS).logits[:, 5:].square().sum().backward()
    expected = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    cache = model(IDS[:, :5], use_cache=True).past_key_values
    model(IDS[:, 5:], past_key_values=cache).logits.square().sum().backward()
    assert all(torch.allclose(w.grad, g, atol=1e-5) for w, g in zip(model.parameters(), expected, strict=True))


def test_mistakes_are_named():
    model, cache = toy_model(), KVCache()
    with torch.no_grad():
        model(IDS[:, :4], past_key_values=cache)
    for length in (-1, 5):
        with pytest.raises(InputError, match=rf"can be cropped to 0–4 positions, .* got {length}"):
            cache.crop(length)
    for rows, message in (
        (torch.tensor([0, 3]), "in 0–2, those it holds, got 3"),
        (IDS, r"numbers \[n\], got .* \[3, 9\]"),
    ):
        with pytest.raises(InputError, match=message):
            cache.reorder(rows)
    with pytest.raises(InputError, match=r"as many rows as the input \(2\), got 3; reorder it"):
        model(IDS[:2], past_key_values=cache)
    with pytest.raises(InputError, match=r"for each of the 3 layers, got \[4, 4\]"):
        toy_model(num_hidden_layers=3)(IDS, past_key_values=cache)
    with pytest.raises(InputError, match=r"\[3, 13\], got \[3, 9\]"):
        model(IDS, mask_of([9, 9, 9], 9, "left"), past_key_values=cache)


def test_a_call_that_failed_half_way_is_noticed():
    class Stop(Instrument):
        def wants(self, site, layer):
            return site == "residual" and layer == 0

        def visit(self, site, layer, value, context):
            raise KeyboardInterrupt

    model, cache = toy_model(), KVCache()
    with torch.no_grad():
        model(IDS[:, :4], past_key_values=cache)
        with pytest.raises(KeyboardInterrupt):
            model(IDS[:, 4:], past_key_values=cache, instruments=[Stop()])
        with pytest.raises(InputError, match=r"got \[9, 4\]; a call that failed may have left it so: crop it"):
            model(IDS[:, 4:], past_key_values=cache)
        cache.crop(4)
        rest = model(IDS[:, 4:], past_key_values=cache).logits
        assert torch.allclose(rest, model(IDS).logits[:, 4:], rtol=0, atol=1e-5)
