"""The parts of data/corpus/build.py that need no package: cleaning, excerpts, exercises, error messages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

BUILDER = Path(__file__).parents[2] / "data" / "corpus"
sys.path.insert(0, str(BUILDER))  # the builder is a folder of scripts that outsiders run, not a package

import cleaning  # noqa: E402
import heldout  # noqa: E402
import languages  # noqa: E402
import mathgen  # noqa: E402
import polynomials  # noqa: E402
import programs  # noqa: E402
from source import Source  # noqa: E402

SOURCE = Source("novel", "A novel", "public domain", "novel", ())


def test_clean_normalises_lines_and_drops_what_is_invisible():
    assert cleaning.clean("\ufeffa\u00a0b \r\n\r\n\r\n\r\ne\u0301\x07\n") == "a b\n\n\u00e9"


def test_unwrap_joins_prose_and_keeps_verse():
    assert cleaning.unwrap("one\ntwo\n\n  a\n  b") == "one two\n\n  a\n  b"


def test_pieces_join_paragraphs_up_to_a_length():
    assert list(cleaning.pieces(["aaa", "", "bbb", "ccc"], longest=6, shortest=1)) == ["aaa\n\nbbb", "ccc"]


def test_repeated_paragraphs_are_dropped_whatever_their_case_and_punctuation():
    seen: set[bytes] = set()
    long = "It is a truth universally acknowledged, that a single man in want of a wife " * 2
    assert cleaning.without_repeats(f"{long}\n\nend", seen) == f"{long}\n\nend"
    assert cleaning.without_repeats(f"{long.upper()}!\n\nend", seen) == "end"


def test_html_paragraphs_leave_navigation_out():
    page = "<nav>menu</nav><p>One<br>two</p><ul><li><p>item</p></li></ul><div class='toc x'>list</div><pre>a\n  b</pre>"
    assert cleaning.html_paragraphs(page, ("toc",)) == ["One two", "- item", "a\n  b"]


def test_licence_notices_are_cut_from_source_files():
    assert programs.without_python_head("# Copyright A\n# B\nimport os\n") == "import os\n"
    assert (
        programs.without_c_notices("#ifndef X\n/* Copyright A */\n/* adds */\nint a;")
        == "#ifndef X\n/* adds */\nint a;"
    )


def test_strings_of_a_script_are_read():
    script = 'define(function(){/*"no"*/globalThis.M=["a","\\xE8 b",null,"c \\"d\\""]})'
    assert languages._javascript_strings(script) == ["a", "è b", 'c "d"']


@given(st.text(alphabet="ab. \né", min_size=1), st.integers(1000, 4000))
def test_shortened_texts_are_beginnings_of_the_wanted_size(text: str, size: int):
    long = text * (6000 // len(text))
    short = heldout.shorten(long, size)
    assert long.startswith(short)
    assert len(short.encode()) <= size


def documents() -> list[heldout.Document]:
    texts = ("\n\n".join(f"Paragraph {i} of text {n} " + "and so on " * 20 for i in range(20)) for n in range(200))
    return [heldout.Document(f"d{n}", text, SOURCE) for n, text in enumerate(texts)]


def test_held_out_documents_share_no_paragraph_with_the_rest():
    train, held = heldout.split(documents())
    assert len(held) == heldout.HELDOUT_DOCUMENTS
    assert len(train) + len(held) == 200
    trained = set().union(*(cleaning.paragraph_keys(d.text, 100) for d in train))
    assert not any(trained & cleaning.paragraph_keys(d.text, 100) for d in held)


def test_documents_that_share_a_paragraph_are_not_held_out():
    shared = "The same long paragraph stands in all of these documents. " * 3
    same = [heldout.Document(d.id, f"{shared}\n\n{d.text}", SOURCE) for d in documents()]
    assert heldout.split(same)[1] == []


def test_polynomials_are_written_as_python():
    assert polynomials.written([5, -1, 3], "x") == "3*x**2 - x + 5"
    assert polynomials.written([0, 0, -1], "y") == "-y**2"
    assert polynomials.written([0], "y") == "0"


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.lists(st.integers(-9, 9), min_size=1, max_size=3))
def test_polynomial_arithmetic_agrees_with_python(a: list[int], b: list[int]):
    for x in (-2, 0, 3):
        assert eval(polynomials.written(a, "x")) == polynomials.value(a, x)
        assert polynomials.value(polynomials.multiply(a, b), x) == polynomials.value(a, x) * polynomials.value(b, x)
        assert polynomials.value(polynomials.compose(a, b), x) == polynomials.value(a, polynomials.value(b, x))


def exercises() -> Iterator[tuple[str, str]]:
    for document in islice(mathgen.documents(7, 10**9), 60):
        lines = document.split("\n")
        yield from zip(lines[::2], lines[1::2], strict=True)


def test_answers_are_right_where_python_can_check_them():
    checked = 0
    for question, answer in exercises():
        if equation := re.fullmatch(r"Solve ([^,]*) = ([^,]*) for (\w)\.", question):
            left, right, name = equation.groups()
            assert all(eval(left, {name: int(x)}) == eval(right, {name: int(x)}) for x in answer.split(", "))
        elif product := re.fullmatch(r"(?:Factor|Expand|Collect the terms in) (.*)\.", question):
            names = dict.fromkeys("abcdefghijklmnopqrstuvwxyz", 17)
            assert eval(product[1], names) == eval(answer, names)
        elif value := re.fullmatch(r"(?:Evaluate|Calculate|What is the value of) ([-+*/() \d]+)[.?]", question):
            assert eval(re.sub(r"\d+", r"Fraction(\g<0>)", value[1]), {"Fraction": Fraction}) == Fraction(answer)
        else:
            continue
        checked += 1
    assert checked > 200


def test_the_same_seed_gives_the_same_exercises():
    assert list(mathgen.documents(1, 5000)) == list(mathgen.documents(1, 5000))
    assert list(mathgen.documents(1, 5000)) != list(mathgen.documents(2, 5000))


def build(*arguments: str, folder: Path, path: str) -> str:
    command = [sys.executable, BUILDER / "build.py", "--cache", folder / "c", "--out", folder / "o", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False)
    assert done.returncode != 0
    return done.stderr


def test_a_missing_downloader_is_named(tmp_path: Path):
    assert "needs npm, which is not on this machine's PATH" in build("legal", folder=tmp_path, path=str(tmp_path))


def test_an_unknown_domain_is_named(tmp_path: Path):
    assert "there is no domain german; the domains are prose_en" in build("german", folder=tmp_path, path="")


@pytest.mark.parametrize("name", ["math_exercises"])
def test_a_domain_is_built(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    import build as builder
    import mathematics

    monkeypatch.setattr(mathematics, "EXERCISES_BYTES", 400_000)
    monkeypatch.setattr(sys, "argv", ["build.py", "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "o"), name])
    builder.main()
    assert len((tmp_path / "o" / "heldout" / f"{name}.jsonl").read_text().splitlines()) == 24
    assert len((tmp_path / "o" / "train" / f"{name}.jsonl").read_text().splitlines()) > 100
