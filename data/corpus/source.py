"""What every reader hands to the builder: a named source of texts of one genre under one licence."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Texts of one origin. `cap` is the most bytes the corpus takes from it; `prose` texts lose repeated paragraphs."""

    key: str
    title: str
    licence: str
    genre: str
    texts: Iterable[str]
    language: str = "en"
    cap: int = 12_000_000
    prose: bool = True
