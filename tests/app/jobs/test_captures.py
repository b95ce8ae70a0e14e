"""What may be captured from the page."""

import pytest

from app.jobs import captures, limits
from mixtral_probe import InputError
from mixtral_probe.corpus import Document


def test_an_uploaded_text_is_one_document():
    (document,) = captures.read_upload("note.txt", "Grüße".encode())
    assert (document.id, document.text) == ("note", "Grüße")


def test_an_uploaded_file_of_rows_has_its_labels():
    rows = b'{"text": "one", "domain": "a"}\n{"text": "two", "id": "second"}\n'
    first, second = captures.read_upload("rows.jsonl", rows)
    assert first.labels == {"domain": "a"}
    assert second.id == "second"


@pytest.mark.parametrize("name", ["rows.jsonl", "../../rows.jsonl"])
def test_an_error_names_the_uploaded_file_and_not_where_it_lies(name):
    with pytest.raises(InputError, match=r"rows.jsonl, line 1") as caught:
        captures.read_upload(name, b"{")
    assert "mixtral-probe-upload" not in str(caught.value)


def test_too_much_text_is_refused():
    with pytest.raises(InputError, match="2,000,000 characters, got 1 and 2,000,001"):
        captures.check([Document("a", "x" * (limits.CAPTURE_CHARACTERS + 1))])


def test_too_many_documents_are_refused():
    with pytest.raises(InputError, match="at most 1,000 documents"):
        captures.check([Document(str(i), "x") for i in range(limits.CAPTURE_DOCUMENTS + 1)])


def test_a_capture_is_described_in_a_few_words():
    text = captures.Request((Document("0", "def add(a, b):\n    return a + b and something that goes on"),))
    assert text.about == "“def add(a, b): return a + b and somethin…”"
    several = captures.Request(tuple(Document(str(i), "x", {"domain": "ab"[i]}) for i in range(2)))
    assert several.about == "2 documents · a, b"
