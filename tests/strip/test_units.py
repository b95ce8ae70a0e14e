"""Tokens grouped into words, lines and sentences, and what the tables say of the groups, by hand."""

import numpy as np
import pytest

from mixtral_probe import InputError, Trace, strip, tables
from mixtral_probe.figures import expert_colors
from mixtral_probe.trace import UNITS, unit_numbers


def grouped(pieces: list[str], unit: str) -> list[str]:
    numbers = unit_numbers(pieces, unit)
    return ["".join(p for p, n in zip(pieces, numbers, strict=True) if n == k) for k in range(numbers.max() + 1)]


@pytest.mark.parametrize(
    ("unit", "pieces", "expected"),
    [
        ("token", [" un", "like", "ly"], [" un", "like", "ly"]),
        ("word", [" un", "like", "ly", ",", " it", "'", "s", " 1", "9", "8", "4", "."], None),
        ("word", ["foo", "_", "bar", "(", "x", ")", "\n", "y"], ["foo_bar", "(", "x", ")", "\n", "y"]),
        ("word", ["", "a", "é", "ß", "字"], ["", "aéß字"]),
        ("line", ["a", " b", "\n", "\n", " c", " d\n", "e"], ["a b\n", "\n", " c d\n", "e"]),
        ("sentence", ["It", " is", ".", " The", " 3", ".", "1", " end", "!"], ["It is.", " The 3.1 end!"]),
        ("sentence", ["“", "No", ".”", "\n", " Yes", "?"], ["“No.”\n", " Yes?"]),
        ("sentence", ["see", " e", ".", "g", ".", " this", "."], ["see e.g. this."]),
        ("sentence", ["Title", "\n\n", "Text", "."], ["Title\n\n", "Text."]),
        ("sentence", ["好", "。", "是"], ["好。", "是"]),
    ],
)
def test_tokens_are_grouped_as_a_reader_would(unit, pieces, expected):
    assert grouped(pieces, unit) == (expected or [" unlikely", ",", " it's", " 1984", "."])


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_begins_where_it_must_and_no_text_gives_none(unit):
    starts = np.array([False, False, True, False])
    assert unit_numbers(["a", "b", "c", "d"], unit, starts)[2] > unit_numbers(["a", "b", "c", "d"], unit, starts)[1]
    assert unit_numbers([], unit).tolist() == []


def test_a_unit_that_is_none_is_refused():
    with pytest.raises(InputError, match="unit must be one of token, word, line, sentence, got 'page'"):
        unit_numbers(["a"], "page")


@pytest.fixture
def trace() -> Trace:
    """A special token, a word of two tokens, one that went nowhere, and another document."""
    return Trace.from_arrays(
        expert_ids=np.array([[[0, 1], [2, 0], [2, 3], [-1, -1], [1, 3]]]),
        expert_weights=np.array([[[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0, 0], [0.75, 0.25]]]),
        router_logits=np.arange(20.0).reshape(1, 5, 4),
        token_ids=np.arange(5),
        document=np.array([0, 0, 0, 0, 1]),
        special=np.array([True, False, False, False, False]),
        num_experts=4,
        documents=[{"id": "a"}, {"id": "b"}],
        piece=["<s>", "un", "like", "!", "ly"],
    )


def test_a_word_shares_the_weights_of_its_tokens(trace):
    table = tables.unit_routes(trace, unit="word")
    rows = [tuple(row) for row in table[["place", "token", "expert", "value", "n"]].itertuples(index=False)]
    # "unlike": expert 2 got 0.6 + 0.5, expert 0 got 0.4 and expert 3 got 0.5, of 2 in all.
    assert [(place, token, expert, n) for place, token, expert, _, n in rows] == [
        *((0, "<s>", 0, 1), (0, "<s>", 1, 1)),
        *((1, "unlike", 0, 2), (1, "unlike", 2, 2), (1, "unlike", 3, 2)),
        *((3, "ly", 1, 1), (3, "ly", 3, 1)),
    ]
    assert table["value"].tolist() == pytest.approx([0.9, 0.1, 0.2, 0.55, 0.25, 0.75, 0.25])
    assert table["null"].unique().tolist() == [0.25]


def test_the_strip_colours_a_word_by_the_expert_with_most_weight(trace):
    table = tables.unit_routes(trace.select([0]), unit="word")
    drawn = strip.by_unit(trace.select([0]), table, strip.TokenRange(0, 4), layer=0)
    assert [(token.row, token.text) for token in drawn] == [(0, "<s>"), (1, "unlike")]
    word = drawn[1]
    assert word.color == expert_colors(4)[2]
    assert word.strength == pytest.approx(0.1 + 0.45 * 0.55)
    assert dict(word.facts)["expert 2"] == "55.0%"
    assert [bar.text for bar in word.bars] == ["20.0%", "0.0%", "55.0%", "25.0%"]


def test_the_logits_of_one_token_are_those_of_the_trace(trace):
    table = tables.token_logits(trace, document=1, position=0)
    assert table["logit"].tolist() == [16, 17, 18, 19]
    assert table["expert"].tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="got document 0, chunk 0, position 77"):
        tables.token_logits(trace, position=77)
