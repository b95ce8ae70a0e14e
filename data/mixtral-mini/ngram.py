"""A trigram model of tokens: the baseline that sees two tokens back."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

VOCABULARY = 8192
WEIGHTS = (0.55, 0.3, 0.14, 0.01)  # of trigram, bigram, unigram, uniform: fixed, not tuned


class Trigram:
    """Relative frequencies of one to three tokens, mixed with fixed weights (Jelinek & Mercer 1980)."""

    def __init__(self, documents: Iterable[np.ndarray]) -> None:
        self._counts: Counter[tuple[int, ...]] = Counter()
        for ids in documents:
            tokens = ids.tolist()
            for size in (1, 2, 3):
                self._counts.update(zip(*(tokens[i:] for i in range(size)), strict=False))
            self._counts.update(((),) * len(tokens))

    def bits(self, ids: np.ndarray) -> float:
        """Bits to predict all of a document's tokens but its first."""
        tokens = tuple(ids.tolist())
        return -sum(np.log2(self._probability(tokens[max(0, i - 2) : i + 1])) for i in range(1, len(tokens)))

    def _probability(self, gram: tuple[int, ...]) -> float:
        total = WEIGHTS[3] / VOCABULARY
        for size, weight in zip((3, 2, 1), WEIGHTS, strict=False):
            if len(gram) >= size and (seen := self._counts[gram[-size:-1]]):
                total += weight * self._counts[gram[-size:]] / seen
        return total
