"""What is claimed of intervals and corrections, simulated on documents whose tokens resemble the one before."""

import numpy as np
import pytest

from mixtral_probe import metrics

SKEWED = np.array([0.2, 0.1, 0.1, 0.15, 0.05, 0.1, 0.15, 0.15])


def copy_chains(rng, repeats, documents, length):
    """[repeats, documents, E] choices: each token repeats the one before at its document's own rate, 0.2 to 0.8.

    What is not repeated is drawn from SKEWED, so that is each expert's true share.
    """
    shape = (repeats, documents, length)
    fresh = rng.choice(8, shape, p=SKEWED)
    new = rng.random(shape) >= rng.uniform(0.2, 0.8, shape[:2])[..., None]
    new[..., 0] = True
    chain = np.take_along_axis(fresh, np.maximum.accumulate(np.where(new, np.arange(length), 0), axis=-1), -1)
    return np.stack([(chain == expert).sum(-1) for expert in range(8)], -1)


def coverage(documents, *, repeats, length=120):
    """How often the intervals of smooth values hold the truth, and those of tokens taken for independent."""
    counts = copy_chains(np.random.default_rng(documents), repeats, documents, length)
    total, deleted = counts.sum(1), counts.sum(1, keepdims=True) - counts
    sizes = np.full((repeats, documents), length)
    hits = {}
    for name, metric in SMOOTH.items():
        low, high = metrics.jackknife_interval(metric(total), metric(deleted), sizes)
        truth = metric(SKEWED)
        hits[name] = np.mean((low <= truth) & (truth <= high))
    share = metrics.share(total)[:, 0]
    half = 1.96 * np.sqrt(share * (1 - share) / (documents * length))
    return hits, np.mean(np.abs(share - SKEWED[0]) <= half)


SMOOTH = {
    "share": lambda counts: metrics.share(counts)[..., 0],
    "cv_squared": metrics.cv_squared,
    "normalized_entropy": metrics.normalized_entropy,
}


@pytest.mark.parametrize("documents", [8, 32])
def test_intervals_cover_what_they_claim(documents):
    hits, naive = coverage(documents, repeats=400)
    for name, hit in hits.items():
        assert 0.92 <= hit <= 0.99, name
    assert naive < 0.85  # as resampling tokens would be


@pytest.mark.slow
@pytest.mark.parametrize("documents", [8, 16, 32, 64])
def test_intervals_cover_93_to_97_percent(documents):
    hits, _ = coverage(documents, repeats=1500)
    for name, hit in hits.items():
        assert 0.93 <= hit <= 0.97, name


@pytest.mark.parametrize("tokens", [300, 1500])
def test_information_less_its_bias_is_unbiased_where_the_plug_in_is_not(tokens):
    rng, found = np.random.default_rng(2), []
    for _ in range(200):
        ids = rng.random((tokens, 8)).argsort(-1)[:, :2]
        joint = np.zeros((12, 8))
        np.add.at(joint, (np.repeat(rng.integers(0, 12, tokens), 2), ids.ravel()), 1)
        found.append((metrics.mutual_information_bits(joint), metrics.mutual_information_bias(joint, chosen=2)))
    plug_in, bias = np.array(found).T
    error = plug_in.std() / np.sqrt(len(plug_in))
    assert plug_in.mean() > 10 * error
    # The correction is exact to first order in 1 / T: within a twentieth of the bias it takes away.
    assert abs((plug_in - bias).mean()) < 3 * error + 0.05 * bias.mean()
