"""What a label tells about experts, against shuffled labels: closed forms, gaps, agreement with the stored counts."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mixtral_probe import tables
from mixtral_probe.errors import InputError
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace


def texts(ids, domains, token_ids=None, **more):
    """Documents of equal length with these domains; ids [L, T, K]."""
    ids = np.asarray(ids)
    return Trace.from_arrays(
        expert_ids=ids,
        document=np.repeat(range(len(domains)), ids.shape[1] // len(domains)),
        documents=[{"domain": name, "writer": f"w{number % 2}"} for number, name in enumerate(domains)],
        token_ids=token_ids,
        num_experts=8,
        **more,
    )


def topic_of_words(words=600, documents=8):
    """Half the types go to expert 0 whatever the topic, half to 1 in topic a and to 2 in topic b: one bit of half."""
    rng = np.random.default_rng(0)
    token = rng.integers(0, 4, documents * words)
    topic = np.repeat(np.arange(documents) % 2, words)
    ids = np.where(token < 2, 0, 1 + topic)
    return texts(ids[None, :, None], ["ab"[n % 2] for n in range(documents)], token)


def test_a_topic_that_moves_half_the_words():
    trace = topic_of_words()
    table = tables.domain_information(trace, shuffles=999)
    moved = (trace.tokens["token_id"] >= 2).mean()
    for least in (1, 80):
        rows = pick(table, variable="domain|token", min_count=least).set_index("metric")
        assert rows.loc["mutual_information_bits", "value"] == pytest.approx(moved, abs=1e-3)
        assert rows.loc["shuffle_p_value", "value"] == pytest.approx(
            2 / 70, abs=0.016
        )  # of all ways to deal the labels
    frequent = pick(table, variable="domain|token", min_count=80, metric="mutual_information_bits").iloc[0]
    assert frequent["low"] <= 0.5 <= frequent["high"]
    assert "no interval" in rows.loc["shuffle_p_value", "scope"]


def test_values_are_those_of_the_stored_counts():
    rng = np.random.default_rng(1)
    trace = random_trace(tokens=600, documents=9, token_ids=rng.zipf(1.5, 600) % 97, special=rng.random(600) < 0.1)
    own = tables.domain_information(trace, shuffles=3)
    stored = tables.mutual_information(RoutingStats.from_trace(trace, by="domain"))
    stored = pick(stored, group="all", metric="mutual_information_bits")
    for variable, least in (("domain", None), ("domain|token", 1)):
        found = pick(own, variable=variable, min_count=least, metric="mutual_information_bits")
        other = pick(stored, variable=variable)
        np.testing.assert_allclose(found["value"], other["value"], rtol=1e-10)
        np.testing.assert_array_equal(found["n"], other["n"])
        np.testing.assert_allclose(found[["low", "high"]], other[["low", "high"]], rtol=1e-8)


def test_a_word_of_one_document_tells_nothing_of_its_topic():
    trace = texts(np.arange(40).reshape(1, 40, 1) % 8, list("aaaabbbb"), np.arange(40))
    rows = pick(tables.domain_information(trace), variable="domain|token", min_count=1)
    assert pick(rows, metric="mutual_information_bits")["value"].item() == pytest.approx(0, abs=1e-12)
    assert pick(rows, metric="shuffle_p_value")["value"].item() == 1


def test_two_documents_of_each_topic_have_too_few_arrangements_for_a_p_value():
    table = tables.domain_information(texts(np.arange(40).reshape(1, 40, 1) % 8, list("aabb"), np.arange(40) % 3))
    rows = pick(table, variable="domain").set_index("metric")
    assert np.isfinite(rows.loc["mutual_information_bits", "null"])
    for name in ("shuffle_p_value", "shuffle_false_discovery"):
        assert np.isnan(rows.loc[name, "value"])
        assert "distinct arrangements of the labels over documents: 3, 20 are needed" in rows.loc[name, "scope"]


def test_false_discoveries_are_those_of_the_layers_of_a_variable():
    rng = np.random.default_rng(4)
    trace = random_trace(layers=5, tokens=600, documents=9, token_ids=rng.integers(0, 9, 600))
    table = tables.domain_information(trace)
    for least in (None, 1):
        rows = pick(table, min_count=least)
        p = pick(rows, metric="shuffle_p_value")["value"].to_numpy()
        found = pick(rows, metric="shuffle_false_discovery")["value"].to_numpy()
        np.testing.assert_allclose(found, false_discovery_control(p))
        assert (p > 0.999 / (5 * (1 + 99))).all()


def test_any_label_can_be_asked_for():
    trace = topic_of_words()
    table = tables.domain_information(trace, by="writer")
    assert table["scope"].str.contains("label writer").all()
    with pytest.raises(InputError, match="by must be a label"):
        tables.domain_information(trace, by="mood")
    with pytest.raises(InputError, match=r"shuffles must be at least 1, .* got 0"):
        tables.domain_information(trace, shuffles=0)


@pytest.mark.parametrize(
    ("domains", "why"),
    [("aaaa", "tokens of one group alone"), ("abcd", "every group is one document")],
)
def test_labels_that_cannot_be_exchanged(domains, why):
    table = tables.domain_information(texts(np.arange(40).reshape(1, 40, 1) % 8, list(domains), np.arange(40) % 3))
    assert table["value"].isna().all()
    assert pick(table, variable="domain")["scope"].str.contains(f"not enough data: {why}").all()


def test_without_the_label_the_table_is_empty_and_says_so():
    trace = Trace.from_arrays(expert_ids=np.zeros((1, 5, 1), int), num_experts=2)
    table = tables.domain_information(trace)
    assert len(table) == 0
    assert "no label 'domain'" in table.attrs["note"]
