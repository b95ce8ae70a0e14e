"""The documents in data/corpus and the tokenizer of data/mixtral-mini."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

DATA = Path(__file__).parents[2] / "data"
DOMAINS = {
    "prose_en", "dialogue_en", "dictionary_en", "techdoc_en", "legal", "python_code", "c_code", "math_exercises",
    "formal_math", "french", "spanish", "russian", "italian",
}  # fmt: skip
LANGUAGES = {"french": "fr", "spanish": "es", "russian": "ru", "italian": "it", "python_code": "python", "c_code": "c"}
TOKENIZER = Tokenizer.from_file(str(DATA / "mixtral-mini" / "tokenizer.json"))
DOCUMENTS = [
    json.loads(line)
    for path in sorted((DATA / "corpus").glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
]


def without_bos(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def test_there_are_13_domains_of_at_least_20_documents():
    counts = Counter(d["domain"] for d in DOCUMENTS)
    assert set(counts) == DOMAINS
    assert min(counts.values()) >= 20


def test_every_document_is_short_and_says_where_it_comes_from():
    for document in DOCUMENTS:
        assert set(document) == {"id", "text", "domain", "genre", "language", "source", "licence"}
        assert all(document.values()), document["id"]
        assert 1000 <= len(document["text"].encode()) <= 4000, document["id"]


def test_ids_and_texts_are_unique():
    assert len({d["id"] for d in DOCUMENTS}) == len(DOCUMENTS)
    assert len({d["text"] for d in DOCUMENTS}) == len(DOCUMENTS)


def test_no_document_is_under_a_copyleft_licence():
    copyleft = ("GPL", "MPL", "-SA", "GFDL")
    assert not {d["licence"] for d in DOCUMENTS if any(word in d["licence"] for word in copyleft)}


def test_language_follows_the_domain():
    for document in DOCUMENTS:
        assert document["language"] == LANGUAGES.get(document["domain"], "en")


def test_texts_are_clean():
    for document in DOCUMENTS:
        text = document["text"]
        assert "\ufffd" not in text
        assert "\r" not in text
        assert "â€" not in text  # UTF-8 read as Windows-1252
        assert text == text.strip("\n")


def test_special_tokens_have_the_ids_of_mixtral():
    assert [TOKENIZER.token_to_id(token) for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert TOKENIZER.get_vocab_size() == 8192


def test_every_document_comes_back_exactly():
    for document in DOCUMENTS:
        encoding = TOKENIZER.encode(document["text"])
        assert encoding.ids[0] == 1
        assert TOKENIZER.decode(encoding.ids) == document["text"]


@given(st.text())
@example("def f(x):\n    return  x\n\n\n\t\tpass  ")
@example("Привет,  мир! 你好 😀 e\u0301 \u00a0\u2028\x00")
@example("<s> a <unk></s>")
def test_any_text_comes_back_exactly(text: str):
    assert TOKENIZER.decode(without_bos(text), skip_special_tokens=False) == text


@given(st.text())
def test_offsets_cover_the_text_in_order(text: str):
    offsets = TOKENIZER.encode(text, add_special_tokens=False).offsets
    covered = {i for start, end in offsets for i in range(start, end)}
    assert covered == set(range(len(text)))
    assert offsets == sorted(offsets)
    assert all(0 <= start < end <= len(text) for start, end in offsets)


@given(st.integers(min_value=0))
def test_every_digit_is_a_token(number: int):
    assert len(without_bos(str(number))) == len(str(number))


@pytest.mark.parametrize("text", ["  ", "    ", "        ", "\n    ", "\n        "])
def test_an_indentation_is_one_token_before_a_word(text: str):
    assert len(without_bos(text + "return")) == 2  # the last space belongs to the word


def test_pieces_of_words_do_not_cross_into_the_next():
    assert TOKENIZER.encode("the king and the man").tokens == ["<s>", "the", "Ġking", "Ġand", "Ġthe", "Ġman"]


def test_an_ordinary_loader_opens_the_tokenizer():
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(DATA / "mixtral-mini")
    text = "x = 12\n    y = 'é'"
    assert tokenizer(text)["input_ids"] == TOKENIZER.encode(text).ids
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_prepare_writes_documents_one_after_another(tmp_path: Path):
    texts = ["one <s> two", "три"]
    for part in ("train", "heldout"):
        (tmp_path / "corpus" / part).mkdir(parents=True)
        rows = "".join(json.dumps({"text": text, "genre": "novel"}) + "\n" for text in texts)
        (tmp_path / "corpus" / part / "russian.jsonl").write_text(rows)
    script = DATA / "mixtral-mini" / "prepare.py"
    command = [sys.executable, script, "--corpus", tmp_path / "corpus", "--out", tmp_path / "tokens"]
    subprocess.run(command, check=True, capture_output=True)
    ids = np.load(tmp_path / "tokens" / "russian.npy")
    assert ids.dtype == np.uint16
    assert list(np.flatnonzero(ids == 1)) == [0, len(ids) - 1 - len(without_bos("три"))]  # "<s>" in a text is text
    assert TOKENIZER.decode(ids) == "".join(texts)
