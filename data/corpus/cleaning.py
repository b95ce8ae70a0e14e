"""From raw text to documents: normalisation, paragraphs, pieces of a good length."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\u200b\u200c\u200d\u2028\u2029\ufffe]")
DROPPED_TAGS = "script style head nav footer header noscript svg button select form label"
VOID_TAGS = "br img hr meta link input area base col wbr source"
BLOCK_TAGS = "p div h1 h2 h3 h4 h5 h6 li dt dd tr table ul ol dl section article blockquote pre body"


def clean(text: str) -> str:
    """NFC, unix line ends, no control or invisible characters, no trailing blanks, at most one empty line in a row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\u00ad", "")
    text = CONTROL.sub("", unicodedata.normalize("NFC", text))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip("\n")


def decode(raw: bytes) -> str:
    """UTF-8 where it is UTF-8, else Latin-1, which every byte string is."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def squeeze(text: str) -> str:
    """Every run of white space becomes one space."""
    return re.sub(r"\s+", " ", text).strip()


def unwrap(text: str) -> str:
    """Join the hard-wrapped lines of each paragraph; indented verse and lists stay as they are."""
    return "\n\n".join(_unwrap_paragraph(p) for p in re.split(r"\n\s*\n", text))


def _unwrap_paragraph(paragraph: str) -> str:
    lines = paragraph.split("\n")
    if sum(line.startswith((" ", "\t", "*", "-")) for line in lines) > len(lines) / 2:
        return paragraph
    return " ".join(line.strip() for line in lines)


def pieces(paragraphs: Iterable[str], longest: int = 8000, shortest: int = 200) -> Iterator[str]:
    """Join consecutive paragraphs into documents of at most about `longest` characters."""
    held: list[str] = []
    size = 0
    for paragraph in (p.strip("\n") for p in paragraphs if p.strip()):
        if held and size + len(paragraph) > longest:
            yield "\n\n".join(held)
            held, size = [], 0
        held.append(paragraph)
        size += len(paragraph)
    if size >= shortest:
        yield "\n\n".join(held)


def code_pieces(text: str, longest: int = 16000) -> Iterator[str]:
    """Split a long source file where an unindented line follows an empty one."""
    yield from pieces(re.split(r"\n\n(?=\S)", text), longest, shortest=1) if len(text) > longest else (text,)


def paragraph_keys(text: str, shortest: int) -> set[bytes]:
    """Digests of the paragraphs of at least `shortest` characters; case and punctuation do not matter."""
    return {digest(p) for p in text.split("\n\n") if len(p) >= shortest}


def digest(text: str) -> bytes:
    """An 8-byte digest of the letters and digits of a text."""
    return hashlib.blake2b(re.sub(r"\W+", "", text.lower()).encode(), digest_size=8).digest()


def without_repeats(text: str, seen: set[bytes], shortest: int = 60) -> str:
    """The text less every longer paragraph that `seen` knows already; what is kept is added to `seen`."""
    kept = []
    for paragraph in text.split("\n\n"):
        if len(paragraph) >= shortest:
            key = digest(paragraph)
            if key in seen:
                continue
            seen.add(key)
        kept.append(paragraph)
    return "\n\n".join(kept).strip("\n")


class _Paragraphs(HTMLParser):
    """Collects the text of a page by block elements, leaving out navigation, scripts and chosen classes."""

    DROPPED = frozenset(DROPPED_TAGS.split())
    VOID = frozenset(VOID_TAGS.split())
    BLOCKS = frozenset(BLOCK_TAGS.split())

    def __init__(self, dropped_classes: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.dropped_classes = dropped_classes
        self.paragraphs: list[str] = []
        self.buffer: list[str] = []
        self.open: list[tuple[str, bool]] = []

    def flush(self) -> None:
        text = "".join(self.buffer)
        self.buffer = []
        text = text.strip("\n") if self._inside("pre") else squeeze(text)
        if text == "-":  # a list item whose text comes in a block of its own
            self.buffer = ["- "]
        elif text.strip():
            self.paragraphs.append(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.VOID:
            if tag == "br":
                self.buffer.append("\n" if self._inside("pre") else " ")
            return
        named = {word for key, value in attrs if key in {"class", "id"} for word in (value or "").split()}
        if tag in self.BLOCKS:
            self.flush()
        self.open.append((tag, tag in self.DROPPED or bool(named & self.dropped_classes)))
        if tag == "li":
            self.handle_data("- ")

    def handle_endtag(self, tag: str) -> None:
        if not self._inside(tag):
            return
        if tag in self.BLOCKS:
            self.flush()
        while self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not any(dropped for _, dropped in self.open):
            self.buffer.append(data)

    def _inside(self, tag: str) -> bool:
        return any(name == tag for name, _ in self.open)


def html_paragraphs(page: str, dropped_classes: Iterable[str] = ()) -> list[str]:
    """The paragraphs of an HTML page; elements with one of `dropped_classes` as class or id are left out."""
    reader = _Paragraphs(frozenset(dropped_classes))
    reader.feed(page)
    reader.close()
    reader.flush()
    return reader.paragraphs
