"""What an expression means on a trace, against the same said in plain Python, row by row."""

import math
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixtral_probe as mp
from mixtral_probe import Selection, Trace
from mixtral_probe.selection import FIELDS, Numbers, SelectionError, mask
from tests.support.app_traces import bare_trace, routed_trace

PIECES = ["<s>", " the", "The", "42", "\n", " ", "ab", ",", "٣", "é", "ABC", None, "\ud800", " x1"]


def trace_of(seed: int = 0) -> Trace:
    """Three documents, one of them without labels, in windows, with experts missing and special tokens."""
    generator = np.random.default_rng(seed)
    layers, tokens, experts = 3, 42, 5
    logits = generator.normal(size=(layers, tokens, experts)).astype(np.float32)
    ids = np.argsort(-logits, axis=-1)[..., :2].astype(np.int16)
    weights = generator.uniform(0.1, 0.9, size=ids.shape).astype(np.float32)
    ids[0, ::7, 1], weights[0, ::7, 1] = -1, 0
    ids[1, ::11], weights[1, ::11] = -1, 0
    return Trace.from_arrays(
        expert_ids=ids,
        expert_weights=weights,
        router_logits=logits,
        token_ids=generator.integers(0, 9, tokens),
        document=np.repeat([0, 1, 2], [20, 12, 10]),
        chunk=np.repeat([0, 1, 0, 0], [12, 8, 12, 10]),
        documents=[
            {"id": "a", "domain": "code", "year": 1999, "good": True, "layer": "odd", "my label": "x"},
            {"id": "b", "domain": "prose", "year": 2001, "good": False, "layer": "even", "my label": "y"},
            {"id": "c", "domain": None, "year": None, "good": None, "layer": "odd", "my label": "x"},
        ],
        special=np.arange(tokens) % 13 == 0,
        moe_layers=[1, 3, 5],
        piece=[PIECES[i] for i in generator.integers(0, len(PIECES), tokens)],
        nll=np.where(generator.uniform(size=tokens) < 0.2, np.nan, generator.exponential(2, tokens)),
        predicted_id=[None if i % 5 == 0 else i % 9 for i in range(tokens)],
        phase=["prefill"] * 30 + ["decode"] * 12,
    )


TRACE = trace_of()


class Row:
    """One token in one layer, as a person would write it down; None where something is missing."""

    def __init__(self, trace: Trace, layer: int, token: int) -> None:
        held = {name: trace.tokens[name].iloc[token] for name in trace.tokens}
        documents = trace.documents.iloc[held["document"]]
        missing = lambda value: None if pd.isna(value) else value  # noqa: E731
        self.layer = trace.meta.moe_layers[layer]
        self.document, self.position, self.chunk = held["document"], held["position"], held["chunk"]
        self.token_id, self.predicted_id, self.nll = (
            held["token_id"],
            missing(held["predicted_id"]),
            missing(held["nll"]),
        )
        self.token, self.special, self.phase = missing(held["piece"]), bool(held["special"]), held["phase"]
        self.labels = {name: missing(documents[name]) for name in trace.labels} | {"id": documents["id"]}
        self.number = token - list(trace.tokens["document"]).index(held["document"])
        pairs = zip(trace.expert_ids[layer, token], trace.expert_weights[layer, token], strict=True)
        self.choices = [(int(expert), float(weight)) for expert, weight in pairs if expert >= 0]
        self.logits = [float(z) for z in trace.router_logits[layer, token]]

    @property
    def experts(self):
        return [expert for expert, _ in self.choices]

    def probability(self, expert):
        return math.exp(self.logits[expert]) / sum(math.exp(z) for z in self.logits)

    @property
    def margin(self):
        if not self.choices:
            return None
        others = [z for expert, z in enumerate(self.logits) if expert not in self.experts]
        return min(self.logits[expert] for expert in self.experts) - max(others)

    @property
    def entropy(self):
        return -sum(self.probability(e) * math.log(self.probability(e)) for e in range(5)) / math.log(5)

    def word(self):
        return None if self.token is None else self.token.strip()


def number(text, of):
    """A name with its value in plain Python, and tests of it: pairs of expression and function."""
    held = st.integers(0, 9) | st.floats(0, 9).map(lambda value: round(value, 2))
    compare = {"==": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}

    def test(sign, value):
        return (
            f"{text} {sign} {value!r}",
            lambda row: of(row) is not None and getattr(float(of(row)), compare[sign])(value),
        )

    def inside(low, high):
        low, high = sorted((low, high))
        return f"{text} in {low!r}..{high!r}", lambda row: of(row) is not None and low <= of(row) <= high

    missing = st.just((f"{text} is missing", lambda row: of(row) is None))
    return st.one_of(st.builds(test, st.sampled_from(sorted(compare)), held), st.builds(inside, held, held), missing)


def text(name, of, known):
    known = st.sampled_from(known)
    quoted = lambda value: "'" + value.replace("\n", r"\n") + "'"  # noqa: E731
    return st.one_of(
        known.map(lambda value: (f"{name} == {quoted(value)}", lambda row: of(row) == value)),
        known.map(lambda value: (f"{name} != {quoted(value)}", lambda row: of(row) != value)),
        known.map(lambda value: (f"{name} contains {quoted(value[:1])}", lambda row: value[:1] in (of(row) or ""))),
        st.lists(known, min_size=1, max_size=3).map(
            lambda values: (f"{name} in {{{', '.join(map(quoted, values))}}}", lambda row: of(row) in values)
        ),
        st.just((f"{name} is missing", lambda row: of(row) is None)),
    )  # fmt: skip


def said(text, of):
    return st.just((text, of))


def of_token(test):
    return lambda row: row.token is not None and bool(test(row.token))


TESTS = st.one_of(
    number("layer", lambda row: row.layer),
    number("document", lambda row: row.document),
    number("chunk", lambda row: row.chunk),
    number("position", lambda row: row.position),
    number("token.number", lambda row: row.number),
    number("token.length", lambda row: None if row.token is None else len(row.token)),
    number("token_id", lambda row: row.token_id),
    number("predicted_id", lambda row: row.predicted_id),
    number("nll", lambda row: row.nll),
    number("choice[0]", lambda row: row.experts[0] if row.experts else None),
    number("choice[1]", lambda row: row.experts[1] if len(row.experts) > 1 else None),
    number("margin", lambda row: row.margin),
    number("order_margin", lambda row: sorted(row.logits)[-1] - sorted(row.logits)[-2]),
    number("logit[3]", lambda row: row.logits[3]),
    number("label.year", lambda row: row.labels["year"]),
    text("token", lambda row: row.token, [piece for piece in PIECES if piece and piece.isprintable()]),
    text("token.word", lambda row: row.word() and row.word().lower() if row.token else None, ["the", "abc", "42"]),
    text("domain", lambda row: row.labels["domain"], ["code", "prose", "poem"]),
    text('label["my label"]', lambda row: row.labels["my label"], ["x", "y"]),
    text("label.layer", lambda row: row.labels["layer"], ["odd", "even"]),
    text("id", lambda row: row.labels["id"], ["a", "b"]),
    text("phase", lambda row: row.phase, ["prefill", "decode"]),
    said("expert == 3", lambda row: 3 in row.experts),
    said("expert != 3", lambda row: 3 not in row.experts),
    said("expert in {0, 4..9}", lambda row: bool({0, 4} & set(row.experts))),
    said("expert is missing", lambda row: not row.experts),
    said("weight > 0.5", lambda row: bool(row.choices) and row.choices[0][1] > 0.5),
    said("weight[2] > 0.4", lambda row: dict(row.choices).get(2, 0) > 0.4),
    said("weight[2] == 0", lambda row: dict(row.choices).get(2, 0) == 0),
    said("probability[1] > 0.25", lambda row: row.probability(1) > 0.25),
    said("probability < 0.5", lambda row: max(map(row.probability, range(5))) < 0.5),
    said("logit > 1", lambda row: max(row.logits) > 1),
    said("entropy < 0.8", lambda row: row.entropy < 0.8),
    said("good", lambda row: row.labels["good"] is not None and bool(row.labels["good"])),
    said("good == false", lambda row: row.labels["good"] is not None and not row.labels["good"]),
    said("token.is_digit", of_token(lambda token: token.strip().isdigit())),
    said("token.is_digit == false", of_token(lambda token: not token.strip().isdigit())),
    said("token.is_alpha", of_token(lambda token: token.strip().isalpha())),
    said("token.is_upper", of_token(lambda token: token.strip().isupper())),
    said("token.is_title", of_token(lambda token: token.strip().istitle())),
    said("token.is_ascii", of_token(lambda token: token.strip().isascii())),
    said("token.is_space", of_token(lambda token: token.isspace())),
    said("token.is_newline", of_token(lambda token: "\n" in token)),
    said("token.is_punctuation", of_token(lambda token: token.strip() and unicodedata.category(token.strip())[0] in "PS"
                                          if len(token.strip()) == 1 else False)),
    said("token.starts_word", of_token(lambda token: len(token) > 1 and token[0] == " " and token[1].isalnum())),
    said("token.is_special", lambda row: row.special),
    said("@digits", of_token(lambda token: token.strip().isdigit())),
)  # fmt: skip


def negated(one):
    return f"not ({one[0]})", lambda row: not one[1](row)


def joined(two):
    (first, here), (second, there) = two
    return f"({first}) and ({second})", lambda row: here(row) and there(row)


def either(two):
    (first, here), (second, there) = two
    return f"{first} or {second}", lambda row: here(row) or there(row)


EXPRESSIONS = st.recursive(
    TESTS,
    lambda inner: inner.map(negated) | st.tuples(inner, inner).map(joined) | st.tuples(inner, inner).map(either),
    max_leaves=4,
)
ROWS = [[Row(TRACE, layer, token) for token in range(42)] for layer in range(3)]


@given(EXPRESSIONS)
@settings(deadline=None, max_examples=300)
def test_a_mask_is_what_the_expression_says_of_every_row(pair):
    expression, plain = pair
    expected = [[bool(plain(row)) for row in rows] for rows in ROWS]
    assert mask(TRACE, expression).tolist() == expected


def test_every_name_is_tried_above():
    source = Path(__file__).read_text()
    tried = source[source.index("TESTS = ") : source.index("EXPRESSIONS = ")]
    assert [name for name in FIELDS if not re.search(rf'"{re.escape(name)}\b', tried)] == []


def test_the_example_of_the_manual():
    trace = routed_trace()
    found = mask(trace, 'layer in 1..2 and token contains "w" and domain == "code"')
    code = trace.documents["domain"].eq("code").to_numpy()[trace.tokens["document"]]
    texts = np.array(["w" in piece for piece in trace.tokens["piece"]])
    assert found.tolist() == [[False] * 240, (code & texts).tolist(), (code & texts).tolist()]


def test_a_mask_is_the_same_in_slices(monkeypatch):
    whole = mask(TRACE, "margin < 0.3 and token.number in 3..15 or domain is missing")
    monkeypatch.setattr(sys.modules[mask.__module__], "_SLICE_ELEMENTS", 150)
    assert (mask(TRACE, "margin < 0.3 and token.number in 3..15 or domain is missing") == whole).all()


@pytest.mark.parametrize(
    ("where", "sentence", "caret"),
    [
        ("layre == 1", "layre is no name that this trace knows; did you mean layer?", "^^^^^"),
        ("colour == 1", "there are layer, document", "^^^^^^"),
        ('layer == "x"', 'layer is compared with a number, got "x"', "         ^^^"),
        ("domain == 3", "domain is compared with a text in quotes, got 3", "          ^"),
        ("domain in 1..2", "domain is compared with a text in quotes, got 1", "          ^"),
        ("good == 1", "good is compared with true or false, got 1", "        ^"),
        ("layer == true", "layer is compared with a number, got true", "         ^^^^"),
        ('layer contains "1"', "contains searches texts, got layer, which is a number", "^^^^^"),
        ("good in {true}", "good is true or false, so it stands alone", "^^^^"),
        ("margin", "margin is not true or false by itself; compare it, as in margin > 0", "^^^^^^"),
        ("choice == 1", r"choice needs an index, as in choice\[0\]", "^^^^^^"),
        ("choice[2] == 1", "rank must be in 0–1, got 2", "^^^^^^^^^"),
        ('weight["a"] == 1', "expert must be in 0–4, got \"a\"", "^^^^^^^^^^^"),
        ("layer[1] == 1", r"layer takes no index, got \[1\]", "^^^^^^^^"),
        ("@x", "@x stands for 'colour == 1', in which colour is no name", "^^"),
    ],
)  # fmt: skip
def test_what_a_trace_lacks_is_told_at_its_place(where, sentence, caret):
    with pytest.raises(SelectionError, match=sentence) as told:
        mask(TRACE, where, {"x": "colour == 1"})
    assert str(told.value).splitlines()[1:] == [f"  {where}", f"  {caret}"]


@pytest.mark.parametrize(
    ("where", "needs"),
    [("margin < 1", "router logits"), ("weight > 0.5", "expert weights"), ("token.is_digit", "the tokens' texts")],
)
def test_what_was_not_recorded_is_told(where, needs):
    with pytest.raises(SelectionError, match=f"needs {needs}, which this trace lacks"):
        mask(bare_trace(), where)


def test_an_empty_trace_has_an_empty_mask():
    empty = Trace.from_arrays(expert_ids=np.zeros((3, 0, 2), np.int16), num_experts=4, documents=[])
    assert mask(empty, "layer == 1 and token.is_digit").shape == (3, 0)


def test_a_selected_trace_has_no_expert_elsewhere():
    where = "layer in 3..5 and nll > 1"
    kept, chosen = mask(TRACE, where), mp.select(TRACE, where)
    assert (chosen.expert_ids[kept] == TRACE.expert_ids[kept]).all()
    assert (chosen.expert_ids[~kept] == -1).all()
    assert (chosen.expert_weights[~kept] == 0).all()
    routes = mp.tables.routes(chosen)
    assert set(routes["layer"]) == {3, 5}
    assert len(routes) == (TRACE.expert_ids[kept] >= 0).sum()


def test_a_selection_says_the_same_as_its_parts():
    selection = Selection(documents=Numbers.of([0]), tokens=Numbers.of(range(3, 9)), layers=Numbers.of([1, 3]),
                          experts=Numbers.of([2, 4]), where="@mine", slices=(("mine", "position < 6"),))  # fmt: skip

    def meant(row):
        place = row.document == 0 and row.number in range(3, 9) and row.position < 6
        return place and row.layer in (1, 3) and bool({2, 4} & set(row.experts))

    rows = np.array([[meant(row) for row in layer] for layer in ROWS])
    assert (selection.mask(TRACE) == rows).all()
    assert (selection.select(TRACE).expert_ids[..., 0] >= 0)[rows].all()
    assert Selection().mask(TRACE).all()
    assert Selection().select(TRACE) is TRACE
