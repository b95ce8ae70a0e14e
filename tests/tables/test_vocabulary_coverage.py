"""How often the interval of cross-validated vocabulary specialization holds the truth, for documents that differ."""

import numpy as np
import pytest

from mixtral_probe.metrics import vocabulary_specialization_crossval
from mixtral_probe.tables.leave_one_out import estimate

EXPERTS, TYPES = 8, 30
FOLD, PLACE = np.divmod(np.arange(16 * TYPES), TYPES)
MEANS = {"min_counts": (1, 10), "weightings": ("type", "token")}


class Corpora:
    """Documents of Zipf words; each word prefers an expert, and each document has its own taste in experts."""

    def __init__(self, preference, seed, taste=0.7):
        self.rng, self.taste = np.random.default_rng(seed), taste
        self.frequency = 1 / np.arange(1, TYPES + 1)
        self.frequency /= self.frequency.sum()
        self.base = preference * np.eye(EXPERTS)[np.arange(TYPES) % EXPERTS]  # logits [V, E]

    def law(self, tastes):
        """[documents, V, E] how likely each word goes to each expert in documents of these tastes [documents, E]."""
        e = np.exp(self.base + tastes[:, None])
        return e / e.sum(-1, keepdims=True)

    def counts(self, number, lengths):
        """[corpora, 16 V, E] choices of corpora of documents with these numbers of words, in random folds."""
        out = np.zeros((number, 16, TYPES, EXPERTS), int)
        for corpus in out:
            law = self.law(self.rng.normal(size=(len(lengths), EXPERTS)) * self.taste)
            words = np.stack([self.rng.multinomial(length, self.frequency) for length in lengths])
            np.add.at(corpus, self.rng.integers(0, 16, len(lengths)), self.rng.multinomial(words, law))
        return out.reshape(number, -1, EXPERTS)

    def share_of_favourites(self):
        """The truth where words are met often enough to know their experts, by type and by token, of a large sample."""
        shares = self.law(self.rng.normal(size=(20_000, EXPERTS)) * self.taste).mean(0).max(-1)
        return np.array([shares.mean(), shares @ self.frequency])


def intervals(counts):
    """Value, low and high [minimum counts, weightings, corpora]; the same number of words in every corpus."""
    found = vocabulary_specialization_crossval(counts, counts.sum(-1), FOLD, PLACE, **MEANS)
    sizes = np.broadcast_to(found.tokens[:, None], found.deleted.shape)
    numbers = estimate(found.value, found.deleted, sizes, folded=True, bounds=(0, 1), about="value")
    return numbers.value, numbers.low, numbers.high


def hit(low, high, truth):
    """[minimum counts, weightings] how many of the intervals hold the truth, with an error of simulation."""
    with_interval = ~np.isnan(low)
    inside = ((low <= truth) & (truth <= high)).sum(-1) / with_interval.sum(-1)
    return inside, np.sqrt(0.92 * 0.08 / with_interval.sum(-1))


def of_clear_preferences(lengths, number, seed=0):
    """Coverage of the large-sample share of each word's own expert, which nearly every split finds."""
    corpora = Corpora(3.0, seed)
    _, low, high = intervals(corpora.counts(number, lengths))
    return hit(low, high, corpora.share_of_favourites()[:, None])


def of_weak_preferences(lengths, number, seed=1):
    """Coverage of what as many other documents give on average, where experts are often taken wrongly."""
    corpora = Corpora(0.7, seed)
    others, _, _ = intervals(corpora.counts(2 * number, lengths))
    _, low, high = intervals(corpora.counts(number, lengths))
    return hit(low, high, others.mean(-1, keepdims=True))


def uneven(documents):
    """Lengths of documents from 60 to 900 words, most of them short."""
    return np.geomspace(60, 900, documents).astype(int)


@pytest.mark.parametrize("coverage", [of_clear_preferences, of_weak_preferences])
@pytest.mark.parametrize("lengths", [[300] * 8, [300] * 30])
def test_intervals_hold_the_truth(coverage, lengths):
    inside, error = coverage(lengths, 150)
    assert (inside >= 0.92 - 2 * error).all()


@pytest.mark.slow
@pytest.mark.parametrize("coverage", [of_clear_preferences, of_weak_preferences])
@pytest.mark.parametrize(
    "lengths",
    [[300] * 8, [300] * 12, [300] * 30, [300] * 100, uneven(8), uneven(16), uneven(40)],
    ids=["8", "12", "30", "100", "8 uneven", "16 uneven", "40 uneven"],
)
def test_intervals_hold_the_truth_92_times_of_100(coverage, lengths):
    inside, error = coverage(lengths, 1500)
    assert (inside >= 0.92 - 2 * error).all()
