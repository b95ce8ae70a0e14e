"""What tokens tell about experts beyond the words and experts of their documents: exact cases and simulated texts."""

import numpy as np
import pytest

from mixtral_probe import tables
from mixtral_probe.trace import Trace
from tests.support.routing import pick

BITS, ABOVE = "mutual_information_bits", "mutual_information_bits_corrected"
EXPERTS, FREQUENT = 8, 40
"""Five choices for each expert, one to a token."""


def trace_of(documents):
    """Documents of (tokens, experts)."""
    tokens, ids = (np.concatenate(parts) for parts in zip(*documents, strict=True))
    lengths = [len(words) for words, _ in documents]
    return Trace.from_arrays(
        expert_ids=ids[None, :, None],
        token_ids=tokens,
        document=np.repeat(range(len(documents)), lengths),
        num_experts=EXPERTS,
    )


class Texts:
    """Documents with words and experts of their own; a word, and the word before, may tell about the expert."""

    def __init__(self, seed, *, vocabulary=150, own_words=2.0, own_experts=0.8, word=0.0, before=0.0):
        self.rng = np.random.default_rng(seed)
        self.own_words, self.own_experts = own_words, own_experts
        self.common = np.log(1 / np.arange(1, vocabulary + 1))
        self.word, self.before = (self.rng.normal(size=(vocabulary, EXPERTS)) * size for size in (word, before))

    def law(self, word, before, taste=0.0):
        """[..., E] how likely each expert is."""
        logits = np.exp(self.word[word] + self.before[before] + taste)
        return logits / logits.sum(-1, keepdims=True)

    def shares(self, unlike=0.0):
        """[V] how common each word is."""
        weights = np.exp(self.common + unlike)
        return weights / weights.sum()

    def document(self, words):
        share = self.shares(self.rng.normal(size=len(self.common)) * self.own_words)
        tokens = self.rng.choice(len(share), words, p=share)
        law = self.law(tokens, np.roll(tokens, 1), self.rng.normal(size=EXPERTS) * self.own_experts)
        return tokens, (law.cumsum(-1) > self.rng.random((words, 1))).argmax(-1)

    def table(self, documents, words):
        trace = trace_of([self.document(words) for _ in range(documents)])
        return trace, tables.context_information(trace)


def information_of(joint):
    """Bits of rows about columns of [R, C] probabilities, summed plainly."""
    p = joint / joint.sum()
    independent = p.sum(1, keepdims=True) * p.sum(0)
    return (p * np.log2(p / independent)).sum()


def test_a_word_of_one_document_alone_tells_nothing_beyond_it():
    """Each document repeats one word, so exchanging its experts changes nothing: exactly 0 above the null."""
    rng = np.random.default_rng(0)
    texts = [(np.full(60, word), rng.choice(8, 60, p=rng.dirichlet(np.ones(8)))) for word in range(6)]
    table = pick(tables.context_information(trace_of(texts)), variable="token")
    bits = pick(table, metric=BITS)
    assert (bits["value"] > 0.3).all()
    np.testing.assert_allclose(bits["null"], bits["value"], atol=1e-12)
    above = pick(table, metric=ABOVE)
    np.testing.assert_allclose(above["value"], 0, atol=1e-12)
    np.testing.assert_allclose(pick(above, min_count=FREQUENT)[["corrected", "low", "high"]], 0, atol=1e-12)


def test_words_before_are_exchanged_among_one_type_in_one_document():
    """Where each type has one word before it in each document, nothing can be exchanged; where it has two, it can."""
    rng = np.random.default_rng(1)
    fixed = [(np.tile([0, 1], 60), rng.integers(0, 8, 120)), (np.tile([0, 1, 2], 40), rng.integers(0, 8, 120))]
    bits = pick(tables.context_information(trace_of(fixed)), variable="previous token|token", min_count=1, metric=BITS)
    np.testing.assert_allclose(bits["null"], bits["value"], atol=1e-12)
    # Of five words two are 1, half of them after a 0 and half after a 2, which settles their expert: 2/5 of a bit.
    words = np.tile([0, 1, 0, 2, 1], 400)
    mixed = trace_of([(words, np.where(words == 1, np.roll(words, 1), 7))])
    bits = pick(tables.context_information(mixed), variable="previous token|token", min_count=1, metric=BITS)
    assert bits["value"].item() == pytest.approx(0.4, abs=1e-3)
    assert bits["null"].item() == pytest.approx(0, abs=1e-3)


def numbers(texts, repeats, *, documents=12, words=400, metric=ABOVE, min_count=FREQUENT):
    """{variable: [repeats, (value, corrected, low, high)]}"""
    found = {}
    for _ in range(repeats):
        _, table = texts.table(documents, words)
        rows = pick(table, metric=metric, min_count=min_count)
        for _, row in rows[rows["value"].notna()].iterrows():
            found.setdefault(row["variable"], []).append(row[["value", "corrected", "low", "high"]].to_numpy(float))
    return {variable: np.array(each) for variable, each in found.items()}


def test_documents_with_words_and_experts_of_their_own_are_no_information_of_tokens():
    texts = Texts(0)
    artefact = numbers(texts, 8, metric=BITS)["token"]
    assert artefact[:, 0].mean() > 0.1
    for variable, found in numbers(texts, 12).items():
        error = found[:, 0].std(ddof=1) / np.sqrt(len(found))
        assert abs(found[:, 0].mean()) < 4 * error + 0.002, variable
        assert abs(found[:, 1].mean()) < 0.01, variable
    for variable, found in numbers(texts, 6, min_count=1).items():
        assert abs(found[:, 0].mean()) < 0.01, variable


def recovered(seed, repeats, documents=12):
    """How far what is above the null is from what words tell, in the mean, and how often the interval holds that."""
    texts, errors, hits = Texts(seed, own_words=0.0, own_experts=0.0, word=1.0), [], []
    share, law = texts.shares(), texts.law(np.arange(150), 0)
    for _ in range(repeats):
        trace, table = texts.table(documents, 500)
        counted = trace.tokens["token_id"][trace.tokens["position"] > 0]
        often = np.bincount(counted, minlength=150) >= FREQUENT
        truth = information_of(share[often, None] * law[often])
        row = pick(table, metric=ABOVE, variable="token", min_count=FREQUENT).iloc[0]
        errors.append(row["corrected"] / truth - 1)
        hits.append(row["low"] <= truth <= row["high"])
    return np.mean(errors), np.mean(hits)


def test_what_frequent_words_tell_is_recovered():
    error, hit = recovered(12, 30)
    assert abs(error) < 0.03
    assert hit >= 0.82  # 0.92 less two standard errors of 30 simulations


@pytest.mark.slow
@pytest.mark.parametrize("documents", [5, 12, 40])
def test_what_frequent_words_tell_is_covered_92_times_of_100(documents):
    error, hit = recovered(documents, 300, documents)
    assert abs(error) < 0.02
    assert hit >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 300)


def test_what_the_word_before_tells_is_recovered():
    """Few words, so that pairs are frequent: what the word before tells is known, whatever the word."""
    texts = Texts(4, vocabulary=12, own_words=0.0, own_experts=0.0, before=1.0)
    share = texts.shares()
    truth = information_of(share[:, None] * texts.law(0, np.arange(12)))
    found = numbers(texts, 10, words=2000)
    for variable in ("previous token", "previous token|token"):
        assert found[variable][:, 1].mean() == pytest.approx(truth, rel=0.05), variable
    for variable in ("token", "next token"):
        assert abs(found[variable][:, 1].mean()) < 0.005, variable


@pytest.mark.slow
@pytest.mark.parametrize("documents", [6, 12, 40])
def test_intervals_of_nothing_hold_nothing(documents):
    found = numbers(Texts(documents), 150, documents=documents)
    for variable, every in found.items():
        rows = every[~np.isnan(every[:, 2])]  # frequent pairs of words may be those of fewer than 5 documents
        assert len(rows) > 50
        # 0.92 less two standard errors.
        assert np.mean((rows[:, 2] <= 0) & (rows[:, 3] >= 0)) >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / len(rows)), variable
