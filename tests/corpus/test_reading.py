import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixtral_probe import InputError
from mixtral_probe.corpus import Corpus, Document, read_corpus


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_one_text_and_lists_of_texts():
    assert read_corpus("2 + 2 =") == [Document("0", "2 + 2 =", {})]
    assert [d.text for d in read_corpus(["a", "b"])] == ["a", "b"]


def test_dicts_and_documents_keep_their_labels():
    rows = [{"id": 7, "text": "a", "domain": "code"}, Document("x", "b", {"domain": "prose"}), {"text": "c"}]
    assert read_corpus(rows) == [
        Document("7", "a", {"domain": "code"}),
        Document("x", "b", {"domain": "prose"}),
        Document("2", "c", {}),
    ]


def test_subfolders_are_domains(tmp_path):
    for name in ("code/b.txt", "code/a.txt", "prose/deep/a.txt", "top.txt", "code/notes.md", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    assert read_corpus(tmp_path) == [
        Document("code/a", "text of code/a.txt", {"domain": "code"}),
        Document("code/b", "text of code/b.txt", {"domain": "code"}),
        Document("prose/deep/a", "text of prose/deep/a.txt", {"domain": "prose"}),
        Document("top", "text of top.txt", {}),
    ]


def test_rows_of_jsonl_and_parquet_say_the_same(tmp_path):
    rows = [{"id": "a", "text": "alpha", "domain": "x"}, {"id": "b", "text": "beta\u2028gamma", "domain": "y"}]
    expected = [Document("a", "alpha", {"domain": "x"}), Document("b", "beta\u2028gamma", {"domain": "y"})]
    assert read_corpus(write_rows(tmp_path / "rows.jsonl", rows)) == expected
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    assert read_corpus(tmp_path / "rows.parquet") == expected


def test_rows_in_a_subfolder_have_its_name_unless_they_say_otherwise(tmp_path):
    (tmp_path / "code").mkdir()
    write_rows(tmp_path / "code" / "rows.jsonl", [{"text": "a"}, {"text": "b", "domain": "prose"}])
    assert read_corpus(tmp_path) == [
        Document("code/rows:1", "a", {"domain": "code"}),
        Document("code/rows:2", "b", {"domain": "prose"}),
    ]


def test_one_text_file_and_its_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_corpus(path) == [Document("a", "hello", {})]


def test_bundled_corpus_has_labelled_domains():
    documents = read_corpus("bundled")
    assert len({d.labels["domain"] for d in documents}) > 5


def test_a_string_that_names_a_folder_is_not_taken_for_a_text(tmp_path):
    with pytest.raises(InputError, match=r"a string is a text, got .*, the name of a file or folder; give Path"):
        read_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "at least one document"),
        ([""], "got an empty one, '0'"),
        ("  \n", "got an empty one, '0'"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "got 'a' twice"),
        ([{"id": "a", "body": "x"}], "got only the fields id, body in document 0"),
        ([{"text": 3}], "got 3 in document 0"),
        ([3], "got a int in document 0"),
        ({"text": "a"}, "got a single dict"),
        (Path("/nowhere/at/all"), "got /nowhere/at/all, where there is nothing"),
    ],
)
def test_mistakes_are_named(source, message):
    with pytest.raises(InputError, match=message):
        read_corpus(source)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n\n{"text": \n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 3"):
        read_corpus(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('"fine"\n')
    with pytest.raises(InputError, match=r"must be an object, got another value in .*a\.jsonl, line 1"):
        read_corpus(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(InputError, match=r"got only the fields id in .*a\.jsonl, row 1"):
        read_corpus(tmp_path / "a.jsonl")
    (tmp_path / "b.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(InputError, match=r"must be UTF-8, got .*b\.txt, which is not at byte 3"):
        read_corpus(tmp_path / "b.txt")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"must be whole, got .*c\.parquet with an error"):
        read_corpus(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": ' * 200_000, ", nested too deep"),
        (b'{"text": "x", "year": ' + b"7" * 5_000 + b"}", " with an error: Exceeds the limit"),
        (b'{"text": "\xe9"}', " with an error: 'utf-8' codec can't decode byte 0xe9"),
        (b'{"text": "x"', " with an error: Expecting"),
    ],
)
def test_a_line_that_no_parser_takes(tmp_path, line, reason):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(InputError, match=rf"must be JSON, got .*a\.jsonl, line 2{reason}"):
        read_corpus(tmp_path / "a.jsonl")


def test_bounds_of_texts_and_lines(tmp_path, monkeypatch):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(InputError, match=r"a\.txt must have at most 1 GiB, got more in "):
        read_corpus(tmp_path / "a.txt")
    monkeypatch.setattr("mixtral_probe.corpus.MOST_LINE", 30)
    write_rows(tmp_path / "a.jsonl", [{"text": "short"}, {"text": "x" * 40}])
    with pytest.raises(InputError, match=r"got more in .*a\.jsonl, line 2; split the document"):
        read_corpus(tmp_path / "a.jsonl")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end_is_not_read(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"must be a file, got a {kind}; copy its content into a file"):
        read_corpus(path)


def test_a_link_stays_in_the_folder_of_the_corpus(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "b.txt").symlink_to(Path("..") / "a.txt")
    (tmp_path / "link").symlink_to(folder)
    assert [document.text for document in read_corpus(tmp_path / "link")] == ["a", "a"]
    (folder / "deep" / "c.txt").symlink_to(Path("..") / ".." / "secret.txt")
    with pytest.raises(InputError, match=r"must lie in it, got .*c\.txt, a link to .*secret\.txt; copy the file"):
        read_corpus(folder)


@pytest.mark.parametrize(
    ("columns", "size"),
    [
        ({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 10**6), ["a"])}, "0.576 GB"),
        ({"text": ["x" * 10**6] * 10**3}, r"[\d.]+ GB"),
    ],
)  # fmt: skip
def test_a_small_parquet_file_that_stands_for_very_much(tmp_path, columns, size):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match=rf"at most 100 times its size in memory, got {size} for "):
        read_corpus(path)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([[1]]), r"list<\w+: int64> in 'x'"),
        (pa.array([2**62], pa.timestamp("ms")), r"timestamp\[ms\] in 'x'"),
        (pa.array([b"\xff"]), "binary in 'x'"),
    ],
)
def test_columns_of_kinds_that_no_label_has(tmp_path, column, kind):
    pq.write_table(pa.table({"text": ["a"], "x": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=f"must hold texts, numbers or truth values, got {kind}; leave it out"):
        read_corpus(tmp_path / "a.parquet")


def test_repeated_texts_and_missing_values_of_parquet(tmp_path):
    columns = {"text": ["a", "b", "a"], "n": [1, None, 3], "d": pa.array(["x", None, "x"]).dictionary_encode()}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [(d.text, d.labels) for d in read_corpus(tmp_path / "a.parquet")] == [
        ("a", {"n": 1, "d": "x"}), ("b", {"n": None, "d": None}), ("a", {"n": 3, "d": "x"})
    ]  # fmt: skip


def test_folders_and_files_without_documents(tmp_path):
    with pytest.raises(InputError, match=r"must hold \.txt, \.jsonl, \.parquet files"):
        read_corpus(tmp_path)
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(InputError, match=r"must be one of .* got 'a\.pdf'"):
        read_corpus(tmp_path / "a.pdf")


def test_a_corpus_has_the_name_of_its_source_and_the_fingerprint_of_its_texts(tmp_path):
    (tmp_path / "novel.txt").write_text("Call me Ishmael.")
    corpus = Corpus.read(tmp_path / "novel.txt")
    assert (corpus.name, [document.id for document in corpus.documents]) == ("novel.txt", ["novel"])
    each = hashlib.sha256(b"Call me Ishmael.").digest()
    assert corpus.fingerprint == hashlib.sha256(each).hexdigest()
    assert Corpus.read("a text").name == "text"
    assert Corpus.read("bundled").name == "bundled"
