"""Arrays of other programs as a trace: tensors of torch are converted, exchanged axes are named."""

import numpy as np
import pytest
import torch

from mixtral_probe import InputError, Trace

LAYERS, TOKENS, EXPERTS = 3, 5, 8
LOGITS = torch.randn(LAYERS, TOKENS, EXPERTS, generator=torch.Generator().manual_seed(0))
IDS = LOGITS.topk(2).indices
WEIGHTS = LOGITS.softmax(-1).gather(-1, IDS)


@pytest.mark.parametrize(
    "convert",
    [
        lambda tensor: tensor,
        lambda tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor.int(),
        lambda tensor: tensor.half() if tensor.is_floating_point() else tensor.short(),
        lambda tensor: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor,
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1),
        lambda tensor: list(tensor),
        lambda tensor: tuple(layer.bfloat16() if layer.is_floating_point() else layer for layer in tensor),
        lambda tensor: tensor.tolist(),
    ],
    ids=["plain", "bfloat16", "float16", "gradient", "sparse", "strided", "list", "tuple of bfloat16", "numbers"],
)
def test_tensors_are_converted(convert):
    trace = Trace.from_arrays(
        expert_ids=convert(IDS), expert_weights=convert(WEIGHTS), router_logits=convert(LOGITS),
        token_ids=torch.arange(TOKENS), special=torch.zeros(TOKENS, dtype=torch.bool),
        nll=torch.ones(TOKENS).bfloat16(),
    )  # fmt: skip
    assert trace.expert_ids.tolist() == IDS.tolist()
    np.testing.assert_allclose(trace.router_logits, LOGITS, rtol=0.01)
    np.testing.assert_allclose(trace.expert_weights, WEIGHTS, rtol=0.01)
    assert trace.tokens["token_id"].tolist() == list(range(TOKENS))
    assert (trace.tokens["nll"] == 1).all()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"expert_ids": IDS.swapaxes(0, 1), "token_ids": np.arange(TOKENS), "num_experts": EXPERTS},
            r"'token_id' must have one value per token, 3, got 5, the first axis of expert_ids, \(5, 3, 2\); give "
            r"\[layers, tokens, chosen experts\]: expert_ids\.swapaxes\(0, 1\) has \(3, 5, 2\)",
        ),
        (
            {"expert_ids": IDS.swapaxes(0, 1), "document": [0] * TOKENS, "num_experts": EXPERTS},
            r"column 'document' must have one value per token, 3, got 5, the first axis of expert_ids",
        ),
        (
            {"expert_ids": IDS.swapaxes(0, 1), "router_logits": LOGITS},
            r"expert_ids and router_logits must both have layers first, .* got the shapes \(5, 3, 2\) and \(3, 5, 8\)",
        ),
        (
            {"expert_ids": IDS, "expert_weights": WEIGHTS.swapaxes(0, 1), "num_experts": EXPERTS},
            r"expert_ids and expert_weights must both have layers first, .* got the shapes \(3, 5, 2\) and \(5, 3, 2\)",
        ),
        (
            {"expert_ids": IDS, "router_logits": LOGITS[0]},
            r"router_logits must have three axes, .*, got the shape \(5, 8\)",
        ),
        ({"expert_ids": [IDS[0], IDS[1, :4]], "num_experts": 8}, r"one shape in all layers, got \(4, 2\) and \(5, 2\)"),
        ({"expert_ids": IDS.to("meta"), "num_experts": 8}, r"expert_ids must be an array of numbers, got Tensor \("),
        ({"expert_ids": "abc", "num_experts": 8}, r"expert_ids must be an array of numbers, got <U3"),
        ({"expert_ids": IDS, "router_logits": LOGITS + 0j}, r"router_logits must be an array of numbers, got complex"),
        ({"expert_ids": [[[1], [1, 2]]], "num_experts": 8}, r"expert_ids must be an array of numbers, got list \("),
    ],
)
def test_axes_and_values_that_do_not_fit(arrays, sentence):
    with pytest.raises(InputError, match=sentence):
        Trace.from_arrays(**arrays)
