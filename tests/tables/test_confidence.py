"""Router confidence and its histograms; attention summaries."""

import numpy as np
import pytest

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import AttentionPlan, Trace
from mixtral_probe.trace.attention import AttentionRecord
from tests.support.routing import collapsed, fixed_trace, pick, random_trace


def value(table, metric, statistic="mean"):
    return pick(table, metric=metric, statistic=statistic)["value"].tolist()


def test_even_logits_are_the_null():
    ids = np.tile([0, 1], (2, 30, 1))
    table = tables.router_confidence(RoutingStats.from_trace(fixed_trace(ids, np.zeros((2, 30, 8)))))
    mean = pick(table, statistic="mean")
    np.testing.assert_allclose(mean["value"], mean["null"], atol=1e-12)
    assert value(table, "router_entropy") == pytest.approx([1, 1])
    assert value(table, "topk_mass") == pytest.approx([0.25, 0.25])


def test_two_experts_half_and_half():
    table = tables.router_confidence(RoutingStats.from_trace(fixed_trace(*collapsed([(3, 6)], 20))))
    assert value(table, "router_entropy") == pytest.approx([1 / 3])
    assert value(table, "top1_probability") == pytest.approx([0.5])
    assert value(table, "topk_mass") == pytest.approx([1])
    assert value(table, "order_margin") == pytest.approx([0])
    assert value(table, "selection_margin") == pytest.approx([1e4])
    assert value(table, "selection_margin", "median") == [15.9375]  # the last bin holds all that lies above


def test_forced_choices_have_a_negative_margin():
    logits = np.tile(np.arange(4.0), (1, 6, 1))
    table = tables.router_confidence(RoutingStats.from_trace(fixed_trace(np.tile([0, 1], (1, 6, 1)), logits)))
    assert value(table, "selection_margin") == [-3]


def test_choosing_every_expert_leaves_no_margin_and_says_so():
    table = tables.router_confidence(RoutingStats.from_trace(random_trace(experts=3, chosen=3)))
    margin = pick(table, metric="selection_margin")
    assert margin["value"].isna().all()
    assert (margin["n"] == 0).all()
    assert margin["scope"].str.contains("not enough data: no tokens with an expert left to compare").all()
    assert pick(table, metric="order_margin")["value"].notna().all()


def test_quantiles_are_within_a_bin_of_the_exact_ones():
    trace = random_trace(layers=1, tokens=500)
    table = tables.router_confidence(RoutingStats.from_trace(trace))
    z = -np.sort(-trace.router_logits[0].astype(float), -1)
    for statistic, level in {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}.items():
        exact = np.quantile(z[:, 1] - z[:, 2], level, method="inverted_cdf")
        assert value(table, "selection_margin", statistic)[0] == pytest.approx(exact, abs=0.126)
    assert pick(table, statistic="median")["low"].isna().all()
    assert pick(table, statistic="mean")["low"].notna().all()


def test_histogram_shares_sum_to_one_and_give_the_median():
    stats = RoutingStats.from_trace(random_trace(tokens=400), by="domain")
    table = tables.router_confidence_histogram(stats)
    np.testing.assert_allclose(table.groupby(["layer", "group", "metric"])["value"].sum(), 1, rtol=1e-12)
    rows = pick(table, layer=0, group="law", metric="router_entropy")
    row = rows[rows["value"].cumsum() >= 0.5].iloc[0]
    medians = pick(tables.router_confidence(stats), layer=0, group="law", metric="router_entropy", statistic="median")
    assert row["left"] <= medians["value"].item() <= row["right"]


LENGTHS = [4, 6, 3]


def attention_trace(maps):
    """A trace of three documents whose sums are those of `maps`: one [H, S, S] per document, for layer 1 of 2."""
    heads = maps[0].shape[0]
    sums = {"tokens": np.zeros((2, 3), np.int64)} | {
        name: np.full((2, 3, heads), np.nan) for name in ("entropy_bits", "distance", "sink")
    }
    for document, a in enumerate(maps):
        back = np.arange(a.shape[-1])[:, None] - np.arange(a.shape[-1])
        sums["tokens"][1, document] = a.shape[-1]
        sums["entropy_bits"][1, document] = -(a * np.log2(np.where(a > 0, a, 1))).sum((1, 2))
        sums["distance"][1, document] = (a * back).sum((1, 2))
        sums["sink"][1, document] = a[:, :, 0].sum(1)
    plan = AttentionPlan({1: tuple(range(heads))}, maps=False)
    bare = Trace.from_arrays(
        expert_ids=np.zeros((2, sum(LENGTHS), 1), int), document=np.repeat(range(3), LENGTHS), num_experts=2,
        meta={"num_heads": heads},
    )  # fmt: skip
    record = AttentionRecord(plan, {f"sums.{name}": array for name, array in sums.items()})
    return Trace(bare.documents, bare.tokens, bare.expert_ids, bare.meta, attention_record=record)


def test_attention_summary_of_known_heads():
    def maps(length):
        even = np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None]
        return np.stack([even, np.eye(length), np.eye(length)[np.zeros(length, int)]])

    table = tables.attention_summary(attention_trace([maps(length) for length in LENGTHS]))
    assert set(table["layer"]) == {1}
    assert set(table["n"]) == {13}
    found = table.set_index(["head", "metric"])["value"]
    even = pick(table, head=0)
    np.testing.assert_allclose(even["value"], even["null"], rtol=1e-12)  # even attention is its own null
    assert found[1, "distance"] == found[1, "entropy_bits"] == found[2, "entropy_bits"] == 0
    assert found[1, "sink_share"] == pytest.approx(3 / 13)  # only the first token of each document sees itself there
    assert found[2, "sink_share"] == 1
    assert found[2, "distance"] == pytest.approx((0 + 1 + 2 + 3 + 0 + 1 + 2 + 3 + 4 + 5 + 0 + 1 + 2) / 13)
    assert table["scope"].str.contains("3 documents: no interval below 5").all()


def test_attention_summary_without_attention_is_empty_and_says_why():
    table = tables.attention_summary(random_trace())
    assert table.empty
    assert table.attrs["note"] == "not enough data: no attention was recorded"
