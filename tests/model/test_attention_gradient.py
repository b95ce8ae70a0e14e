"""The attention maps of ``output_attentions`` carry the gradient that those of transformers' eager attention carry."""

import pytest
import torch

from tests.support.models import mask_of, ours_like, reference_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(50)


def gradients(model, layers=True, mask=None, ids=IDS):
    out = model(ids, attention_mask=mask, labels=ids, output_attentions=layers, use_cache=False)
    maps = [weights for weights in out.attentions if weights is not None]
    return maps, torch.autograd.grad(out.loss, maps)


@pytest.mark.parametrize("heads", [{}, {"num_key_value_heads": 4}, {"num_key_value_heads": 1}], ids=str)
@pytest.mark.parametrize("mask", [None, mask_of([9, 5], 9, "left")], ids=["whole", "padded"])
def test_attention_times_gradient(heads, mask):
    theirs = reference_model(**heads)
    expected, found = gradients(theirs, mask=mask), gradients(ours_like(theirs), mask=mask)
    for a, b in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    assert all(gradient.abs().max() > 0 for gradient in found[1])


def test_one_head_chosen_layers_and_retained_gradients():
    theirs = reference_model(num_attention_heads=1, num_key_value_heads=1, num_hidden_layers=3)
    ours = ours_like(theirs)
    whole, (some,) = gradients(ours)[1], gradients(ours, [1])[1]
    assert torch.equal(some, whole[1])
    out = ours(IDS, labels=IDS, output_attentions=True)
    for weights in out.attentions:
        weights.retain_grad()
    out.loss.backward()
    assert all(torch.allclose(w.grad, g) for w, g in zip(out.attentions, whole, strict=True))


def test_while_layers_run_again():
    theirs = reference_model()
    ours = ours_like(theirs)
    kept = gradients(ours)[1]
    ours.gradient_checkpointing_enable()
    again = gradients(ours.train())[1]
    assert all(torch.equal(a, b) for a, b in zip(again, kept, strict=True))


def test_the_fused_kernel_does_not_depend_on_them():
    out = ours_like(reference_model(), "fast")(IDS, labels=IDS, output_attentions=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(out.loss, out.attentions)
