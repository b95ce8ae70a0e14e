"""Some rows of a trace, as values for an expression; each distinct text is evaluated once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.trace import Trace

Array = NDArray[Any]


class NeedsError(Exception):
    """A name needs values that were not recorded; the text names them."""


@dataclass(frozen=True)
class Texts:
    """Texts by number: [n] codes into the distinct texts, -1 = missing."""

    codes: Array
    distinct: tuple[str, ...]

    def test(self, test: Callable[[str], bool]) -> NDArray[np.bool_]:
        """[n] which pass; a missing text never does."""
        passed = np.array([*map(test, self.distinct), False], dtype=bool)
        return passed[self.codes]

    def numbers(self, of: Callable[[str], float]) -> NDArray[np.float64]:
        """[n] a number of each text, NaN where it is missing."""
        return np.array([*map(of, self.distinct), np.nan], dtype=np.float64)[self.codes]

    def mapped(self, function: Callable[[str], str]) -> "Texts":
        """Apply a function to every text."""
        return replace(self, distinct=tuple(map(function, self.distinct)))


class Rows:
    """n rows of a trace, and all its layers."""

    def __init__(self, trace: Trace, part: slice) -> None:
        """Keep the trace and the slice.

        Args:
            trace: the trace.
            part: a slice of T.
        """
        self.trace, self.part = trace, part
        self.num_experts = trace.num_experts
        self.tokens = trace.tokens.iloc[part]

    @cached_property
    def layers(self) -> Array:
        """[L] the model's own numbers."""
        return np.array(self.trace.layers)

    @cached_property
    def ids(self) -> Array:
        """[L, n, K]"""
        return np.asarray(self.trace.expert_ids[:, self.part])

    @cached_property
    def weights(self) -> Array:
        """[L, n, K]"""
        if self.trace.expert_weights is None:
            raise NeedsError("expert weights")
        return np.asarray(self.trace.expert_weights[:, self.part])

    @cached_property
    def logits(self) -> Array:
        """[L, n, E]"""
        if self.trace.router_logits is None:
            raise NeedsError("router logits")
        return np.asarray(self.trace.router_logits[:, self.part])

    @cached_property
    def places(self) -> Array:
        """[n] how many tokens of the document come before each."""
        document = self.trace.tokens["document"].to_numpy()
        return np.arange(len(document))[self.part] - np.searchsorted(document, document[self.part])

    @cached_property
    def pieces(self) -> Texts:
        """[n] the tokens' texts."""
        if len(self.trace) and not len(self.tokens["piece"].cat.categories):
            raise NeedsError("the tokens' texts")
        return self.texts("piece")

    def numbers(self, column: str) -> NDArray[np.float64]:
        """[n] a column of the tokens, NaN where it is missing."""
        return self.tokens[column].to_numpy(dtype=np.float64, na_value=np.nan)

    def texts(self, column: str) -> Texts:
        """[n] a categorical column of the tokens."""
        coded = self.tokens[column].cat
        return Texts(coded.codes.to_numpy(), tuple(map(str, coded.categories)))

    def document_numbers(self, label: str) -> NDArray[np.float64]:
        """[n] a number or truth label of the tokens' documents, NaN where it is missing."""
        column = self.trace.documents[label]
        return column.to_numpy(dtype=np.float64, na_value=np.nan)[self._documents]

    def document_texts(self, label: str) -> Texts:
        """[n] a text of the tokens' documents."""
        codes, distinct = pd.factorize(self.trace.documents[label].astype(object))
        return Texts(codes[self._documents], tuple(map(str, distinct)))

    @cached_property
    def _documents(self) -> Array:
        return self.tokens["document"].to_numpy()
