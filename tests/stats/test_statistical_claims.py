"""What is claimed of intervals and corrections, simulated on documents whose tokens resemble the one before."""

import numpy as np
import pytest

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick

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
        bias = metrics.mutual_information_bias(joint, exclusion=6 / 7)
        found.append((metrics.mutual_information_bits(joint), bias))
    plug_in, bias = np.array(found).T
    error = plug_in.std() / np.sqrt(len(plug_in))
    assert plug_in.mean() > 10 * error
    # The correction is exact to first order in 1 / T: within a twentieth of the bias it takes away.
    assert abs((plug_in - bias).mean()) < 3 * error + 0.05 * bias.mean()


class Texts:
    """Documents of four topics with Zipf words; each topic, word and document has its own taste in experts."""

    words, experts, topics, vocabulary = 1000, 8, 4, 300

    def __init__(self, seed, topic=0.4, document=0.3):
        self.rng = np.random.default_rng(seed)
        self.share = 1 / np.arange(1, self.vocabulary + 1)
        self.share /= self.share.sum()
        self.base = self.rng.normal(size=(self.vocabulary, self.experts))
        self.topic = self.rng.normal(size=(self.topics, self.vocabulary, self.experts)) * topic
        self.document = document

    def law(self, topic, taste):
        """[V, E] how likely each word goes to each expert in a document."""
        logits = np.exp(self.base + self.topic[topic] + taste)
        return logits / logits.sum(-1, keepdims=True)

    def truth(self):
        """[V, topics, E] the same over documents, and how common each word is."""
        taste = np.random.default_rng(0).normal(size=(2000, 1, self.experts)) * self.document
        laws = [np.mean([self.law(topic, own) for own in taste], axis=0) for topic in range(self.topics)]
        return np.stack(laws, 1) * self.share[:, None, None] / self.topics

    def trace(self, documents, *, drawn=False):
        """Documents that take turns in their topics, or have topics drawn at random."""
        turns = np.arange(documents) % self.topics
        topics = self.rng.integers(0, self.topics, documents) if drawn else turns
        words, ids = [], []
        for topic in topics:
            law = self.law(topic, self.rng.normal(size=self.experts) * self.document)
            words.append(self.rng.choice(self.vocabulary, self.words, p=self.share))
            ids.append((law[words[-1]].cumsum(-1) > self.rng.random((self.words, 1))).argmax(-1))
        return Trace.from_arrays(
            expert_ids=np.concatenate(ids)[None, :, None],
            token_ids=np.concatenate(words),
            document=np.repeat(range(documents), self.words),
            documents=[{"domain": f"topic {topic}"} for topic in topics],
            num_experts=self.experts,
        )


def information_of(joint):
    """Bits of rows about columns of [R, C] probabilities, summed plainly."""
    whole = joint.sum()
    rows, columns = joint.sum(1, keepdims=True) / whole, joint.sum(0, keepdims=True) / whole
    return (joint * np.log2(joint / whole / (rows * columns))).sum() / whole


def covered(documents, repeats, topic):
    """How often intervals of frequent types hold the truth of those types: of words, and of topics among them.

    Topics are given in the second case; in the first they are drawn with the documents.
    """
    texts = Texts(documents, topic)
    truth, hits = texts.truth(), {"token": [], "domain|token": []}
    for _ in range(repeats):
        drawn, turns = texts.trace(documents, drawn=True), texts.trace(documents)
        for name, trace, table, least in (
            ("token", drawn, tables.context_information(drawn), 40),
            ("domain|token", turns, tables.domain_information(turns, shuffles=1), 160),
        ):
            row = pick(table, variable=name, min_count=least, metric="mutual_information_bits").iloc[0]
            own = truth[np.bincount(trace.tokens["token_id"], minlength=texts.vocabulary) >= least]
            if name == "token":
                value = information_of(own.sum(1))
            else:
                value = sum(information_of(word) * word.sum() for word in own) / own.sum()
            hits[name].append(row["low"] <= value <= row["high"])
    return {name: np.mean(held) for name, held in hits.items()}


def test_information_of_frequent_types_is_covered():
    for name, hit in covered(16, repeats=25, topic=0.4).items():
        assert hit >= 0.88, name  # 22 of 25


def test_topics_that_settle_every_choice_are_covered_too():
    assert covered(16, repeats=25, topic=2.0)["domain|token"] >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("documents", [8, 16, 32, 64])
def test_information_of_frequent_types_is_covered_92_times_of_100(documents):
    for name, hit in covered(documents, repeats=150, topic=0.4).items():
        assert hit >= 0.88, name  # 0.92 and twice its standard error in 150 simulations


def test_the_bias_of_cells_takes_documents_for_topics_and_shuffled_labels_do_not():
    """No topic at all, but documents that differ: shuffled labels find nothing, Miller and Madow much."""
    texts, p_values, above, corrected = Texts(5, topic=0, document=0.5), [], [], []
    for _ in range(12):
        trace = texts.trace(12)
        found = tables.domain_information(trace, shuffles=39)
        found = pick(found, variable="domain|token", min_count=1).set_index("metric")["value"]
        p_values.append(found["shuffle_p_value"])
        above.append(found["mutual_information_bits_above_shuffles"])
        plain = tables.mutual_information(RoutingStats.from_trace(trace, by="domain"))
        plain = pick(plain, variable="domain|token", metric="mutual_information_bits_corrected")
        corrected.append(plain["value"].item())
    assert abs(np.mean(above)) < 0.01
    assert np.mean(corrected) > 0.05
    assert np.min(p_values) > 0.02
    assert 0.25 < np.mean(p_values) < 0.75


@pytest.mark.slow
def test_p_values_of_shuffled_labels_are_uniform():
    texts = Texts(6, topic=0, document=0.5)
    texts.words = 200
    found = []
    for _ in range(200):
        table = tables.domain_information(texts.trace(12), shuffles=19)
        found.append(pick(table, variable="domain", metric="shuffle_p_value")["value"].item())
    # 20 values, each 10 times of 200 by chance; 99.9 % of such chi-squares with 19 degrees of freedom lie below 43.8.
    counts = np.bincount((np.array(found) * 20).round().astype(int) - 1, minlength=20)
    assert ((counts - 10) ** 2 / 10).sum() < 43.8
