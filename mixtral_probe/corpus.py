"""Documents with labels, from texts, dicts, files or folders."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import GIB, MIB, one_sentence, read_text, require_file, unreadable
from mixtral_probe.resources import data_path

_ROWS = (".jsonl", ".parquet")
_READABLE = (".txt", *_ROWS)
MOST_TEXT, MOST_LINE = GIB, 64 * MIB
"""Bytes of a text file, and of a line of a ``.jsonl`` file."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text."""

    id: str
    """Unique in its corpus."""
    text: str
    labels: dict[str, Any] = field(default_factory=dict)
    """Further facts, such as its ``domain``."""


Source = str | Path | Sequence[str | Mapping[str, Any] | Document]


def read_corpus(source: Source) -> list[Document]:
    """Read every document of a source.

    Args:
        source: one of
            a text;
            "bundled", the corpus of this package;
            a list of texts, of dicts with ``text``, optionally ``id``, and labels, or of documents;
            a ``Path`` to a ``.txt`` file (one document), a ``.jsonl`` or ``.parquet`` file (a row is such a dict), or a
            folder of these, with subfolders. Documents in a subfolder get its name as the label ``domain``, unless a
            row has another.

    Raises:
        InputError: no documents, an empty text, an id twice, or a file whose content does not match its suffix.
    """
    documents = list(_documents(source))
    if not documents:
        raise InputError("a corpus must have at least one document, got none; give a text")
    seen: set[str] = set()
    for document in documents:
        if not document.text.strip():
            raise InputError(f"a document must have text, got an empty one, {document.id!r}; leave it out")
        if document.id in seen:
            raise InputError(f"document ids must differ, got {document.id!r} twice; rename one")
        seen.add(document.id)
    return documents


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents and their name in a trace or a result."""

    name: str
    documents: tuple[Document, ...]

    @classmethod
    def read(cls, source: Source) -> "Corpus":
        """Read a source as ``read_corpus`` does; its name is the last part of a path, "bundled", or "text"."""
        documents = tuple(read_corpus(source))
        if isinstance(source, Path):
            return cls(source.name, documents)
        return cls("bundled" if isinstance(source, str) and source == "bundled" else "text", documents)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the documents' texts."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest())
        return digest.hexdigest()


def _documents(source: Source) -> Iterator[Document]:
    if isinstance(source, str) and source == "bundled":
        source = data_path("corpus")
    if isinstance(source, str):
        _refuse_path(source)
        yield Document("0", source)
    elif isinstance(source, Path):
        yield from _from_path(checked_path(source))
    elif isinstance(source, Mapping):
        raise InputError("documents must be in a list, got a single dict; put it in brackets")
    elif not isinstance(source, Iterable):
        raise InputError(f"text must be a string, a list of strings or documents, or a Path, got {source!r}")
    else:
        for index, entry in enumerate(source):
            yield _from_entry(entry, index)


def _from_entry(entry: str | Mapping[str, Any] | Document, index: int) -> Document:
    if isinstance(entry, Document):
        return entry
    row = {"text": entry} if isinstance(entry, str) else entry
    return _from_row(row, str(index), f"document {index}")


def _refuse_path(text: str) -> None:
    """Raise InputError for a string that is the name of a file or folder."""
    if len(text) > 1000 or "\n" in text or "\0" in text:
        return
    path = Path(text)
    if path.suffix in _READABLE or "/" in text or "\\" in text:
        try:
            exists = path.expanduser().exists()
        except OSError:
            return
        if exists:
            raise InputError(f"a string is a text, got {text!r}, the name of a file or folder; give Path({text!r})")


def _from_path(path: Path) -> Iterator[Document]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("[!.]*") if file.suffix in _READABLE and not file.is_dir())
        if not files:
            raise InputError(
                f"a corpus folder must hold {', '.join(_READABLE)} files, got {path} without; name another"
            )
        for file in files:
            _refuse_outside(file, path)
            yield from _from_file(file, file.relative_to(path))
    elif not path.exists():
        raise InputError(f"a corpus must exist, got {path}, where there is nothing; name another")
    elif path.suffix in _READABLE:
        yield from _from_file(path, Path(path.name))
    else:
        raise InputError(
            f"a corpus file must be one of {', '.join(_READABLE)}, got {path.name!r}; rename or convert it"
        )


def _refuse_outside(file: Path, folder: Path) -> None:
    """Raise InputError for a link that leads out of a corpus folder."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"files of a corpus folder must lie in it, got {file}, a link to {file.resolve()}; copy the file into the "
            "folder, or leave it out"
        )


def _from_file(file: Path, inside: Path) -> Iterator[Document]:
    """Yield the documents of a file whose path inside the corpus is ``inside``."""
    labels = {"domain": inside.parts[0]} if len(inside.parts) > 1 else {}
    if file.suffix == ".txt":
        yield Document(inside.with_suffix("").as_posix(), read_text(file, MOST_TEXT), labels)
        return
    rows = _json_rows(file) if file.suffix == ".jsonl" else _parquet_rows(file)
    for number, row in rows:
        yield _from_row(labels | row, f"{inside.with_suffix('').as_posix()}:{number}", f"{file}, row {number}")


def _from_row(row: Mapping[str, Any], default_id: str, where: str) -> Document:
    if not isinstance(row, Mapping):
        raise InputError(
            f"a document must be a text or a dict with 'text', got a {type(row).__name__} in {where}; give a text"
        )
    text = row.get("text")
    if not isinstance(text, str):
        value = f"{text!r}" if "text" in row else f"only the fields {', '.join(map(str, row)) or 'nothing'}"
        raise InputError(f"a document must have a string in the field 'text', got {value} in {where}; add one")
    name = row.get("id")
    labels = {str(key): value for key, value in row.items() if key not in ("id", "text")}
    return Document(default_id if name is None else str(name), text, labels)


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number, from 1 as in editors, and content of each line that is not blank."""
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        with one_sentence("every line of a .jsonl file must be JSON", where, "correct it"):
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        if not isinstance(row, dict):
            raise InputError(f"every line of a .jsonl file must be an object, got another value in {where}; write one")
        yield number, row


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        require_file(file)
        with file.open("rb") as stream:
            for number in count(1):
                if not (line := stream.readline(MOST_LINE + 1)):
                    return
                if len(line) > MOST_LINE:
                    raise InputError(
                        f"a line of a .jsonl file must have at most {MOST_LINE / MIB:g} MiB, got more in {file}, "
                        f"line {number}; split the document"
                    )
                if line.strip():
                    yield number, line
    except OSError as error:
        raise unreadable(file, error) from None


def _parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from mixtral_probe.parquet_files import rows_of

    with one_sentence("a Parquet file must be whole", file, "write it again"):
        yield from enumerate(rows_of(file))
