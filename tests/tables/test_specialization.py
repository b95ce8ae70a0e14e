"""Domains and mutual information: known answers, bias, what is missing."""

import numpy as np
import pytest
from scipy.stats import entropy

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace

BITS = "mutual_information_bits"


def stats_of(ids, domains=("x", "y"), by="domain", number=8, **more):
    ids = np.asarray(ids)
    documents = [{"id": str(i), "domain": domains[i % len(domains)]} for i in range(number)]
    owner = np.repeat(range(number), ids.shape[1] // number)
    trace = Trace.from_arrays(expert_ids=ids, document=owner, documents=documents, **{"num_experts": 8, **more})
    return RoutingStats.from_trace(trace, by=by)


def bits(table, variable, metric=BITS, group="all"):
    return pick(table, variable=variable, metric=metric, group=group)["value"].item()


def test_routing_by_token_tells_all_about_words_and_nothing_of_topics():
    tokens = np.random.default_rng(0).integers(0, 20, 1600) % np.repeat([20, 5], 800)  # topics differ in their words
    pairs = np.array([np.random.default_rng(token).permutation(8)[:2] for token in range(20)])
    table = tables.mutual_information(stats_of(pairs[tokens][None], domains=("x",) * 4 + ("y",) * 4, token_ids=tokens))
    share = np.bincount(pairs[tokens].ravel(), minlength=8) / 3200
    assert bits(table, "token") == pytest.approx(entropy(share, base=2) - 1)
    assert bits(table, "domain") > 0.02
    assert bits(table, "domain|token") == pytest.approx(0, abs=1e-12)
    assert bits(table, "token", "mutual_information_share") < 1


def test_first_choices_by_token_tell_their_whole_entropy():
    tokens = np.arange(800) % 5
    table = tables.mutual_information(stats_of(np.array([3, 1, 4, 1, 5])[tokens][None, :, None], token_ids=tokens))
    assert bits(table, "token") == pytest.approx(entropy([1, 1, 2, 1], base=2))


def test_chance_is_taken_off():
    rng = np.random.default_rng(1)
    ids = rng.random((1, 16000, 8)).argsort(-1)[..., :2]
    table = tables.mutual_information(stats_of(ids, token_ids=rng.integers(0, 40, 16000)))
    own = pick(table, variable="token", metric=BITS, group="all")
    assert own["null"].item() == pytest.approx(39 * 6 / (4 * 16000 * np.log(2)))
    assert own["value"].item() == pytest.approx(own["null"].item(), rel=0.2)
    for variable in ("token", "domain", "position", "domain|token"):
        plain, less = bits(table, variable), bits(table, variable, f"{BITS}_corrected")
        assert less == pytest.approx(plain - pick(table, variable=variable, metric=BITS, group="all")["null"].item())
        assert abs(less) < 0.002


def test_the_position_is_told_from_the_first_token():
    position = np.tile(np.arange(100), 12)
    table = tables.mutual_information(stats_of(np.where(position == 0, 7, position % 2)[None, :, None], number=12))
    # The expert is 7 at position 0 alone; elsewhere it is one of two, which no bucket above position 1 tells apart.
    assert bits(table, "position") == pytest.approx(entropy([1, 99], base=2) + 0.01 * 1, abs=0.02)
    row = pick(table, variable="position", metric=BITS, group="x").iloc[0]
    assert row["n"] == 600
    assert row["low"] <= row["high"]


def test_what_was_not_recorded_is_said():
    table = tables.mutual_information(RoutingStats.from_trace(random_trace(), by="domain"))
    for variable in ("token", "domain|token"):
        gone = pick(table, variable=variable)
        assert gone["value"].isna().all()
        assert gone["scope"].str.contains("not enough data: token ids were not recorded").all()
    assert set(pick(table, variable="domain")["group"]) == {"all"}
    assert pick(table, variable="domain", metric=BITS)["low"].notna().all()
    plain = tables.mutual_information(RoutingStats.from_trace(random_trace()))
    assert set(plain["variable"]) == {"position", "token", "next token", "predicted token"}


def test_domains_with_their_own_experts():
    ids = np.where(np.arange(8).repeat(100) % 2 == 0, 0, 1)[None, :, None]
    table = tables.domain_specialization(stats_of(ids, num_experts=3))
    found = pick(table, metric="frequency_difference").set_index(["group", "expert"])["value"]
    assert found.to_dict() == {("x", 0): 0.5, ("x", 1): -0.5, ("x", 2): 0, ("y", 0): -0.5, ("y", 1): 0.5, ("y", 2): 0}
    ratio = pick(table, metric="frequency_log2_ratio", group="x").set_index("expert")["value"]
    assert ratio[0] == pytest.approx(np.log2((400.5 / 401) / (400.5 / 801)))
    assert ratio[1] == pytest.approx(np.log2((0.5 / 401) / (400.5 / 801)))


def test_domains_need_groups():
    table = tables.domain_specialization(RoutingStats.from_trace(random_trace()))
    assert len(table) == 0
    assert "RoutingStats.from_trace(trace, by=…)" in table.attrs["note"]


def grouped_documents(experts_of, documents=12, tokens=10):
    """Documents in turn of two groups; `experts_of(group, document)` gives each token's one expert of 4."""
    ids = np.concatenate([experts_of(number % 2, number) for number in range(documents)]).reshape(1, -1, 1)
    return Trace.from_arrays(
        expert_ids=ids,
        num_experts=4,
        document=np.repeat(np.arange(documents), tokens),
        documents=[{"id": str(number), "domain": "ab"[number % 2]} for number in range(documents)],
    )


def test_documents_alike_within_their_group_leave_no_doubt():
    trace = grouped_documents(lambda group, _: np.full(10, group))
    table = tables.domain_specialization(RoutingStats.from_trace(trace, by="domain"))
    [row] = pick(table, group="a", expert=0, metric="frequency_difference").to_dict("records")
    assert [row[name] for name in ("value", "corrected", "low", "high")] == pytest.approx([0.5] * 4)


def test_an_expert_that_no_token_chose_is_special_to_no_group():
    trace = grouped_documents(lambda group, _: np.full(10, group))
    table = tables.domain_specialization(RoutingStats.from_trace(trace, by="domain"))
    unused = pick(table, expert=3, metric="frequency_log2_ratio")
    assert unused["value"].tolist() == [0, 0]
    # expert 0 in group a: 60 tokens of 60, where 30 of 60 are expected of all
    [ratio] = pick(table, group="a", expert=0, metric="frequency_log2_ratio")["value"]
    assert ratio == pytest.approx(np.log2(60.5 / 30.5))


@pytest.mark.parametrize("sizes", [(8, 8), (30, 30)])
def test_intervals_of_groups_against_all_cover_what_they_claim(sizes):
    rng, hits = np.random.default_rng(sum(sizes)), []
    laws = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    truth = laws[0] - laws.mean(0)
    for repeat in range(60):
        groups = np.repeat([0, 1], sizes)
        ids = [rng.choice(4, 60, p=rng.dirichlet(15 * laws[group])) for group in groups]
        trace = Trace.from_arrays(
            expert_ids=np.concatenate(ids)[None, :, None],
            num_experts=4,
            document=np.repeat(np.arange(len(groups)), 60),
            documents=[{"id": f"{repeat}-{i}", "domain": "ab"[group]} for i, group in enumerate(groups)],
        )
        table = tables.domain_specialization(RoutingStats.from_trace(trace, by="domain"))
        own = pick(table, group="a", metric="frequency_difference")
        hits.append((own["low"] <= truth) & (truth <= own["high"]))
    assert np.mean(hits) >= 0.92 - 2 * np.sqrt(0.05 * 0.95 / 60)  # experts of one trace are one simulation


def test_a_group_of_one_document_has_no_interval_and_says_so():
    trace = grouped_documents(lambda group, _: np.full(10, group), documents=2)
    table = tables.domain_specialization(RoutingStats.from_trace(trace, by="domain"))
    assert table["low"].isna().all()
    tested = table["metric"].str.startswith("shuffle_")
    assert table["scope"][~tested].str.contains("a group of 1 document: no interval").all()
    few = "not enough data: distinct arrangements of the labels over documents: 1, 20 are needed"
    assert table["scope"][tested].str.contains(few).all()
