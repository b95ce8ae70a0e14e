"""Scores of a logit lens, computed on the device, against the formulas of metrics and hand computation."""

import numpy as np
import pytest
import torch

from mixtral_probe import metrics
from mixtral_probe.experiments import lens_scores
from mixtral_probe.experiments.lens_scores import Reference


def logits(seed, rows=37, vocabulary=311, scale=5.0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.fixture(params=[1, 1000, 2**24])
def chunked(request, monkeypatch):
    """Chunks of one row, of three, and of all."""
    monkeypatch.setattr(lens_scores, "_ELEMENTS_ON_CPU", request.param)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0, 60.0])
def test_scores_are_the_formulas_of_metrics(scale):
    final, layer = logits(0, scale=scale), logits(1, scale=scale)
    following = torch.arange(36)
    scores = {name: values.numpy() for name, values in Reference.of(final).scores(layer, following, 4).items()}
    log_p = metrics.log_probabilities(layer.numpy())
    np.testing.assert_allclose(scores["entropy_bits"], metrics.prediction_entropy_bits(layer.numpy()), atol=1e-6)
    divergence = metrics.prediction_divergence_bits(final.numpy(), layer.numpy())
    np.testing.assert_allclose(scores["divergence_bits"], divergence, rtol=1e-6, atol=1e-6)
    surprise = -log_p[np.arange(36), following] / np.log(2)
    np.testing.assert_allclose(scores["next_token_bits"][:-1], surprise, rtol=1e-6)
    assert np.isnan(scores["next_token_bits"][-1])
    best = np.argsort(-layer.numpy(), axis=-1)[:, :4]
    np.testing.assert_array_equal(scores["predicted_id"], best)
    np.testing.assert_allclose(scores["probability"], np.exp(np.take_along_axis(log_p, best, -1)), rtol=1e-6)
    np.testing.assert_array_equal(scores["agrees"], best[:, 0] == final.numpy().argmax(-1))


@pytest.mark.usefixtures("chunked")
def test_the_last_layer_diverges_from_itself_by_nothing():
    final = logits(2, scale=30.0)
    scores = Reference.of(final).scores(final, torch.arange(5), 1)
    assert (scores["divergence_bits"] == 0).all()
    assert scores["agrees"].all()
    assert scores["next_token_bits"].isnan().sum() == 37 - 5


def test_one_of_two_equal_tokens_has_one_bit():
    scores = Reference.of(torch.tensor([[0.0, 0.0, -1e4]])).scores(
        torch.tensor([[3.0, 3.0, -1e4]]), torch.tensor([1]), 1
    )
    assert {name: scores[name].item() for name in ("entropy_bits", "divergence_bits", "next_token_bits")} == {
        "entropy_bits": 1.0, "divergence_bits": 0.0, "next_token_bits": 1.0,
    }  # fmt: skip
