"""What selected tokens tell about their experts: counted plainly, and as in a trace that has no others."""

from collections import Counter
from dataclasses import replace
from math import log2

import numpy as np
import pytest

from mixtral_probe import tables
from mixtral_probe.metrics import enough_tokens
from mixtral_probe.selection import mask, select
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick

BITS = "mutual_information_bits"
DOMAINS = ("code", "law", "math")
EXPRESSIONS = (
    "token.is_digit",
    "layer == 3 and token.is_digit",
    "expert == 1",
    "not token.is_digit and position > 1",
)


def routed_texts(seed=0, documents=9, words=160, experts=4):
    """Documents of three topics in two windows, whose tokens choose by type, topic and document."""
    rng = np.random.default_rng(seed)
    length = documents * words
    token, document = rng.zipf(1.4, length) % 12, np.repeat(range(documents), words)
    taste = rng.normal(size=(2, 12, experts))[:, token] + rng.normal(size=(2, 3, experts))[:, document % 3]
    logits = taste + rng.gumbel(size=(2, length, experts))
    return Trace.from_arrays(
        expert_ids=np.argsort(-logits, axis=-1)[..., :2],
        num_experts=experts,
        moe_layers=[1, 3],
        token_ids=token,
        predicted_id=[None if number % 7 == 0 else int(number) % 5 for number in rng.integers(0, 99, length)],
        piece=[str(number) if number % 3 else f"w{number}" for number in token],
        special=rng.random(length) < 0.05,
        document=document,
        chunk=np.tile(np.repeat([0, 1], words // 2), documents),
        documents=[{"id": f"d{number}", "domain": DOMAINS[number % 3]} for number in range(documents)],
    )


TRACE = routed_texts()


def plain_bits(pairs):
    """Bits that the first of (value, expert) tell about the second."""
    joint, n = Counter(pairs), len(pairs)
    rows, columns = Counter(value for value, _ in pairs), Counter(expert for _, expert in pairs)
    return sum(k / n * log2(k * n / (rows[value] * columns[expert])) for (value, expert), k in joint.items())


def choices(layer, tokens, value_of):
    return [(value_of[row], int(expert)) for row in tokens for expert in TRACE.expert_ids[layer, row]]


def neighbours():
    """{token: the one before}, both of one window and neither special."""
    tokens = TRACE.tokens
    where = list(zip(tokens["document"], tokens["chunk"], strict=True))
    special = tokens["special"].tolist()
    return {
        row: row - 1
        for row in range(1, len(tokens))
        if where[row] == where[row - 1] and not special[row] and not special[row - 1]
    }


def plain_context(layer, selected, least):
    """{variable: (bits, tokens)} of the values with so many selected tokens."""
    before, ids = neighbours(), TRACE.tokens["token_id"].tolist()
    follows = {b: a for a, b in before.items()}
    predicted = TRACE.tokens["predicted_id"].to_numpy(np.int64, na_value=-1)
    values = {
        "token": {row: ids[row] for row in before},
        "previous token": {row: ids[b] for row, b in before.items()},
        "previous token|token": {row: (ids[row], ids[b]) for row, b in before.items()},
        "next token": {row: ids[a] for row, a in follows.items()},
        "predicted token": {row: predicted[row] for row in np.flatnonzero(predicted >= 0)},
    }
    bits_of = {}
    for name, value in values.items():
        met = Counter(value[row] for row in value if row in selected)
        rows = [row for row in value if row in selected and met[value[row]] >= least]
        if rows:
            bits = plain_bits(choices(layer, rows, value))
            within = plain_bits(choices(layer, rows, dict.fromkeys(rows, 0)))
            if name.endswith("|token"):
                within = plain_bits(choices(layer, rows, {row: value[row][0] for row in rows}))
            bits_of[name] = bits - within, len(rows)
    return bits_of


def plain_domain(layer, selected, least):
    """Bits of the domain among selected tokens of one type, of the types with so many of them; and how many tokens."""
    ids = TRACE.tokens["token_id"].tolist()
    domain = [DOMAINS[document % 3] for document in TRACE.tokens["document"]]
    met = Counter(ids[row] for row in selected)
    kinds = [[row for row in selected if ids[row] == kind] for kind in met if met[kind] >= least]
    n = sum(map(len, kinds))
    return sum(len(rows) / n * plain_bits(choices(layer, rows, domain)) for rows in kinds), n


def selected_tokens(where):
    """[[row]] the tokens of each layer that are selected and not special."""
    return [{*np.flatnonzero(rows & ~TRACE.tokens["special"])} for rows in mask(TRACE, where)]


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_neighbours_of_selected_tokens_are_those_of_the_text(where):
    table = pick(tables.context_information(select(TRACE, where)), metric=BITS)
    assert table["scope"].str.contains(f"where {where}", regex=False)[table["n"] > 0].all()
    for row, selected in enumerate(selected_tokens(where)):
        for least in (1, enough_tokens(4, 2)):
            own = pick(table, layer=(1, 3)[row], min_count=least).set_index("variable")
            expected = plain_context(row, selected, least)
            assert {*expected} == {*own.index[own["n"] > 0]}
            for variable, (bits, n) in expected.items():
                assert own.loc[variable, "value"] == pytest.approx(bits, abs=1e-10)
                assert own.loc[variable, "n"] == n


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_topics_are_told_apart_among_selected_tokens(where):
    selection = select(TRACE, where)
    table = pick(tables.domain_information(selection, shuffles=3), metric=BITS)
    assert table["scope"].str.contains(f"where {where}", regex=False)[table["n"] > 0].all()
    stored = tables.mutual_information(RoutingStats.from_trace(TRACE, by="domain", where=where))
    for row, selected in enumerate(selected_tokens(where)):
        own = pick(table, layer=(1, 3)[row])
        for least in (1, enough_tokens(3 * 4, 2)):
            found = pick(own, variable="domain|token", min_count=least).iloc[0]
            if selected:
                bits, n = plain_domain(row, selected, least)
                assert found["value"] == pytest.approx(bits, abs=1e-10)
                assert found["n"] == n
            else:
                assert "no type has" in found["scope"]
        known = pick(stored, layer=(1, 3)[row], group="all", variable="domain", metric=BITS)
        np.testing.assert_allclose(pick(own, variable="domain")["value"], known["value"], rtol=1e-10)


@pytest.mark.parametrize("name", ["context_information", "domain_information"])
def test_selected_documents_are_as_if_there_were_no_others(name):
    """Value, null and interval alike: neither shuffles nor blocks nor rare types see the other documents."""
    function = getattr(tables, name)
    own, alone = function(select(TRACE, "document in 0..5")), function(TRACE.select(range(6)))
    numbers = ["value", "corrected", "low", "high", "null"]
    np.testing.assert_allclose(own[numbers], alone[numbers], rtol=1e-12, atol=1e-14)
    assert own["low"].notna().any()
    assert own["n"].tolist() == alone["n"].tolist()
    assert own["scope"].str.replace("; where document in 0..5", "", regex=False).tolist() == alone["scope"].tolist()


@pytest.mark.parametrize("where", EXPRESSIONS[:2])
@pytest.mark.parametrize("name", ["context_information", "domain_information"])
def test_selected_tokens_are_as_if_others_had_no_experts(name, where):
    function = getattr(tables, name)
    absent = replace(TRACE, expert_ids=np.where(mask(TRACE, where)[..., None], TRACE.expert_ids, np.int16(-1)))
    own, other = function(select(TRACE, where)), function(absent)
    # Whole traces count types by all of their tokens, so that only rows of all types can be the same.
    own, other = (table[table["metric"].eq(BITS) & table["min_count"].fillna(1).eq(1)] for table in (own, other))
    np.testing.assert_allclose(own["value"], other["value"], rtol=1e-12, atol=1e-14)
    assert own["n"].tolist() == other["n"].tolist()
    # Few shuffles of the experts, and not the same ones.
    np.testing.assert_allclose(own["null"], other["null"], rtol=0.2, atol=0.005)
