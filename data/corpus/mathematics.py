"""School exercises made by a generator, and the statements of formal mathematics."""

import re
from collections.abc import Iterator

import mathgen
from cleaning import pieces, squeeze
from fetch import Packages
from source import Source

EXERCISES_SEED = 20240101
EXERCISES_BYTES = 10_000_000


def math_exercises(packages: Packages) -> Iterator[Source]:
    """Generated school exercises with answers; this project's own work."""
    texts = mathgen.documents(EXERCISES_SEED, EXERCISES_BYTES)
    title = f"generated (mathgen.py, seed {EXERCISES_SEED})"
    yield Source("exercises", title, "Apache-2.0 (own work)", "exercise", texts, prose=False)


def formal_math(packages: Packages) -> Iterator[Source]:
    """The theorems of Metamath's set.mm: each with its comment, label and statement, without the proof."""
    path = packages.deb("metamath-databases") / "usr/share/metamath/databases/set.mm"
    texts = pieces(_statements(path.read_text("utf-8", "replace")), longest=6000)
    title = "Debian metamath-databases (set.mm)"
    yield Source("set-mm", title, "CC0-1.0", "theorem statement", texts, prose=False)


STATEMENT = re.compile(
    r"""\$\( (?P<comment> (?: (?!\$\)) . )* ) \$\) \s*      # $( comment $)
        (?:\$\{\s*)? (?:\$d[^$]*\$\.\s*)*                   # a block and its distinct-variable conditions
        (?:[\w.\-]+\s+\$e[^$]*\$\.\s*)*                     # hypotheses
        (?P<label>[\w.\-]+) \s+ \$[pa] \s (?P<statement>.*?) \$[=.]""",
    re.S | re.X,
)


def _statements(database: str) -> Iterator[str]:
    credits_ = r"(?s)\((?:Contributed|Proposed|Proof\s+shortened|Revised|New\s+usage)\b.*"
    for found in STATEMENT.finditer(database):
        comment = squeeze(re.sub(credits_, "", found["comment"]))
        if len(comment) > 30:
            yield f"{comment}\n{found['label']}: {squeeze(found['statement'])}"
