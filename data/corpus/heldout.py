"""Which documents are held out: short excerpts, spread over the sources, that share no paragraph with the rest."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from cleaning import paragraph_keys
from source import Source

HELDOUT_DOCUMENTS = 24
SHARE_OF_A_SOURCE = 4  # at most every fourth document of a source
EXCERPT_BYTES = (1500, 3500)
SHORTEST_EXCERPT = 1000
SHARED_PARAGRAPH = 100


@dataclass(frozen=True)
class Document:
    """One text of the corpus."""

    id: str
    text: str
    source: Source

    @cached_property
    def rank(self) -> bytes:
        """Place in a pseudo-random order that depends on nothing but the text."""
        return hashlib.sha256(self.text.encode()).digest()

    def row(self, domain: str) -> dict[str, str]:
        """The document as a row of a corpus file."""
        source = self.source
        return {
            "id": self.id,
            "text": self.text,
            "domain": domain,
            "genre": source.genre,
            "language": source.language,
            "source": source.title,
            "licence": source.licence,
        }


def split(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """(training documents, held-out excerpts). What is left of an excerpted document is in neither."""
    counts = Counter(key for d in documents for key in paragraph_keys(d.text, SHARED_PARAGRAPH))
    pools: dict[str, list[Document]] = {}
    sizes = Counter(d.source.key for d in documents)
    for document in sorted(documents, key=lambda d: d.rank):
        pool = pools.setdefault(document.source.key, [])
        if len(pool) >= sizes[document.source.key] // SHARE_OF_A_SOURCE:
            continue
        excerpt = replace(document, text=_excerpt(document))
        unique = all(counts[key] == 1 for key in paragraph_keys(document.text, SHARED_PARAGRAPH))
        if unique and len(excerpt.text.encode()) >= SHORTEST_EXCERPT:
            pool.append(excerpt)
    order = sorted(pools, key=lambda key: hashlib.sha256(key.encode()).digest())
    chosen = _in_turn([pools[key] for key in order])[:HELDOUT_DOCUMENTS]
    ids = {d.id for d in chosen}
    return [d for d in documents if d.id not in ids], sorted(chosen, key=lambda d: d.id)


def _in_turn(pools: list[list[Document]]) -> list[Document]:
    """First of each pool, second of each, and so on."""
    longest = max(map(len, pools))
    return [pool[i] for i in range(longest) for pool in pools if i < len(pool)]


def _excerpt(document: Document) -> str:
    """A part of the document of pseudo-random size that begins at a pseudo-random paragraph."""
    least, most = EXCERPT_BYTES
    size = least + int.from_bytes(document.rank[:4]) % (most - least)
    starts = [0] + [m.end() for m in re.finditer(r"\n\n(?=\S)", document.text)]
    possible = [s for s in starts if len(document.text[s:].encode()) >= size] or [0]
    return shorten(document.text[possible[document.rank[4] % len(possible)] :], size)


def shorten(text: str, size: int) -> str:
    """The beginning of a text: at most `size` UTF-8 bytes, ending with a paragraph, else a line, else a sentence."""
    head = text.encode()[:size].decode(errors="ignore")
    if head == text:
        return text
    for end in (r"\n\n", r"\n", r"(?<=[.!?;:])\s"):
        cuts = [m.start() for m in re.finditer(end, head)]
        if cuts and len(head[: cuts[-1]].encode()) >= SHORTEST_EXCERPT:
            return head[: cuts[-1]].rstrip()
    return ""
