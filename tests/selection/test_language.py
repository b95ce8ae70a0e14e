"""The language of selections: what it reads, how it spells it again, and how it points at a mistake."""

from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtral_probe import InputError, Selection
from mixtral_probe.selection import Numbers, SelectionError, build, parse
from mixtral_probe.selection.build import Builder
from mixtral_probe.selection.docs import selection_page
from tests.support.selections import texts, trees


@given(trees)
@settings(deadline=None)  # the first call makes the parser
def test_the_spelling_of_a_tree_is_read_as_that_tree(tree):
    assert parse(str(tree)).root == tree
    assert str(parse(str(tree))) == str(tree)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("layer   in 8..15\n and token.is_digit", "layer in 8..15 and token.is_digit"),
        ("layer not in {1, 2,}", "not layer in {1, 2}"),
        ("((layer == 1))", "layer == 1"),
        ("not (a or b and c)", "not (a or b and c)"),
        ("(a or b) and (c and d)", "(a or b) and (c and d)"),
        ("domain == 'it\\'s \"so\"'", 'domain == "it\'s \\"so\\""'),
        ("id == '\n'", 'id == "\\n"'),
        ("nll in ..2", "nll in ..2"),
        ("nll in 1e3..", "nll in 1000.0.."),
        ("position in 3", "position in {3}"),
    ],
)
def test_one_canonical_spelling(text, canonical):
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize(
    ("text", "sentence", "caret"),
    [
        ("", "an expression is needed", "^"),
        ("layer = 3", 'the language has no "="; write == to compare', "      ^"),
        ("layer inn 3", "expected a comparison such as ==, in or contains", "      ^^^"),
        ("(layer == 1", r"expected .*\), got nothing", "           ^"),
        ("layer == 1 layer", "expected and, or or the end", "           ^^^^^"),
        ('domain == "code', 'the text that begins with " has no end', "          ^"),
        ("layer in 5..3", "a range goes upward, got 5..3; write 3..5", "         ^^^^"),
        ('layer in "a"..3', "a range goes between numbers", "         ^^^"),
        ('layer < "a"', "< compares numbers", "        ^^^"),
        ("token contains 3", "contains takes a text", "               ^"),
        ("@digit", "did you mean @digits", "^^^^^^"),
        ("@zzzzzz", "there are @digits", "^^^^^^^"),
        ("weight[1.5] > 0", "an index is a whole number or a text", "       ^^^"),
        (r'id == "\q"', "a backslash in a text", "      ^^^^"),
        ("layer == 1e999", "a number must be between", "         ^^^^^"),
        ("import os", "expected", "       ^^"),
        ("__import__('os').system('x')", "expected", "          ^"),
        ("not " * 60 + "a", "nests at most 50 levels", None),
        ("a or " * 2000 + "a", "at most 4,000 characters", None),
    ],
)
def test_a_mistake_is_told_at_its_place(text, sentence, caret):
    with pytest.raises(SelectionError, match=sentence) as told:
        parse(text)
    lines = str(told.value).splitlines()
    assert len(lines) == 3
    if caret is not None:
        assert lines[1] == f"  {text}"
        assert lines[2] == f"  {caret}"


@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_is_an_expression_or_a_mistake_of_one_sentence(text):
    try:
        parse(text)
    except SelectionError as error:
        str(error).encode()


def test_a_long_or_broken_line_shows_the_place_alone():
    with pytest.raises(SelectionError) as told:
        parse("a or " * 100 + "\n  b or\nc = 3\n")
    assert str(told.value).splitlines()[1:] == ["  c = 3", "    ^"]
    with pytest.raises(SelectionError) as told:
        parse("a or " * 100 + "c = 3" + " or a" * 100)
    shown, carets = str(told.value).splitlines()[1:]
    assert shown[carets.index("^")] == "="
    assert len(shown) < 130


def test_slices_stand_on_those_before_them_and_never_on_themselves():
    mine = {"late": "layer in 2..", "both": "@late and @digits"}
    assert parse("@both", mine).root.body == parse("@late and @digits", mine).root
    with pytest.raises(SelectionError, match=r"@round stands for '@round', in which @round names no slice"):
        parse("@round", {"round": "@round"})
    chain = {"s0": "layer == 0"} | {f"s{i}": f"@s{i - 1}" for i in range(1, 60)}
    with pytest.raises(SelectionError, match="levels deep"):
        parse("@s59", chain)


def doubling(depth):
    """Slices of which each uses the one before it twice: 2 to the power of `depth` tests when written out."""
    return [("s0", "special")] + [(f"s{i}", f"@s{i - 1} and not @s{i - 1}") for i in range(1, depth)]


def test_nested_slices_are_expanded_once_up_to_a_size(monkeypatch):
    parsed = []
    monkeypatch.setattr(build, "Builder", lambda text, *rest: parsed.append(text) or Builder(text, *rest))
    parse("@s9 or @s8", dict(doubling(10)))
    assert len(parsed) == 11
    link = urlencode([("slice", f"{name}:{text}") for name, text in doubling(30)] + [("where", "@s29")])
    for read in (lambda: Selection.from_query(link), lambda: parse("@s29", dict(doubling(30)))):
        parsed.clear()
        with pytest.raises(SelectionError, match="at most 40,000 characters with its slices written out"):
            read()
        assert len(parsed) <= 31


def test_a_selection_of_which_no_trace_could_be_asked_is_refused_at_once():
    with pytest.raises(SelectionError, match=r"at most 4,000 characters, got 5,0\d\d"):
        Selection(slices=(("long", "a or " * 500 + "a"),), where="@long and not @long")
    with pytest.raises(SelectionError, match="at most 4,000 characters"):
        Selection(tokens=Numbers.of(range(0, 5_000, 2)))
    with pytest.raises(InputError, match="at most 100 slices, got 101"):
        Selection(slices=tuple((f"s{i}", "special") for i in range(101)))
    assert Selection(slices=(("long", "a or " * 500 + "a"),), where="@long")


def test_the_sentence_about_a_slice_is_short():
    chain = {"s0": "a = 3"} | {f"s{i}": f"@s{i - 1}" + " and special" * 200 for i in range(1, 9)}
    with pytest.raises(SelectionError) as caught:
        parse("@s8", chain)
    assert len(caught.value.sentence) < 2_000


@pytest.mark.parametrize("text", ["where=%ff", "layer=1&slice=a%3A%c3%28", "http://x/?where=%80", "http://[x/?a=b"])
def test_an_address_that_is_no_text_is_refused(text):
    with pytest.raises(InputError, match="an address must spell its texts in UTF-8"):
        Selection.from_query(text)


@given(st.sets(st.integers(0, 40)))
def test_numbers_are_the_numbers_they_were_made_of(numbers):
    made = Numbers.of(numbers)
    assert list(made) == sorted(numbers)
    assert {number for number in range(50) if number in made} == numbers
    assert Numbers.parse(str(made)) == made
    assert bool(made) == bool(numbers)
    gaps = [after - before for (_, before), (after, _) in zip(made.ranges, made.ranges[1:], strict=False)]
    assert all(gap > 1 for gap in gaps)


@pytest.mark.parametrize("text", ["a", "3..", "5..3", "-1", "1.5", "1;2", "9" * 30])
def test_numbers_that_are_none(text):
    with pytest.raises(InputError):
        Numbers.parse(text)


some = st.sets(st.integers(0, 99), max_size=5).map(Numbers.of)
selections = st.builds(
    Selection,
    traces=st.lists(texts.filter(bool), max_size=2).map(tuple),
    documents=some,
    tokens=some,
    layers=some,
    experts=some,
    heads=some,
    where=st.just("") | trees.map(str),
    slices=st.just(()) | trees.map(lambda tree: (("mine", str(tree)),)),
)


@given(selections)
def test_a_selection_comes_back_from_its_address(selection):
    query = selection.to_query()
    assert Selection.from_query(query) == selection
    assert Selection.from_query(f"http://127.0.0.1:8501/token_routing?{query}&load=gini#x") == selection
    query.encode("ascii")
    if selection.expression:
        parse(selection.expression)


def test_the_address_of_a_selection():
    selection = Selection(layers=Numbers.of(range(8, 16)), experts=Numbers.of([3]), where='@mine and domain == "code"',
                          slices=(("mine", "token.is_digit"),))  # fmt: skip
    assert selection.to_query() == (
        "layer=8..15&expert=3&slice=mine%3Atoken.is_digit&where=%40mine+and+domain+%3D%3D+%22code%22"
    )
    assert selection.expression == 'layer in {8..15} and expert in {3} and (token.is_digit and domain == "code")'
    assert Selection().to_query() == ""
    assert Selection.from_query({"layer": "3", "group": "code"}) == Selection(layers=Numbers.of([3]))


def test_a_selection_that_cannot_be():
    with pytest.raises(SelectionError, match="expected"):
        Selection(where="layer ==")
    with pytest.raises(InputError, match="a slice's name is a word, got 'a b'"):
        Selection(slices=(("a b", "layer == 1"),))
    with pytest.raises(InputError, match="numbers are written as"):
        Selection.from_query("layer=all")


def test_the_page_about_the_language_is_up_to_date_and_its_examples_can_be_read():
    page = Path(__file__).parents[2] / "docs" / "selection.md"
    assert page.read_text() == selection_page(), "run: python -m mixtral_probe.selection.docs > docs/selection.md"
    for line in page.read_text().split("```")[1].splitlines()[1:]:
        parse(line.split("#")[0])
