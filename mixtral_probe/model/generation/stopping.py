"""The end of a row: its full length, a stop id, or a stop string."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.token_text import unknown_token


class TokenSpelling(Protocol):
    """A tokenizer, as stop strings use it."""

    def spelling(self, token_id: int) -> bytes:
        """The bytes of one token's text; InputError for an id beyond its vocabulary."""
        ...


class Stops:
    """Finds rows that end.

    Args:
        length: positions of a full row, the prompt included.
    """

    def __init__(
        self, options: GenerationOptions, length: int, device: torch.device, tokenizer: TokenSpelling | None
    ) -> None:
        if options.stop_strings and tokenizer is None:
            raise InputError("stop_strings need a tokenizer, got None; pass tokenizer=")
        self.length, self._tokenizer = length, tokenizer
        self._ends = torch.tensor(options.ends, dtype=torch.int64, device=device)
        self._texts: Sequence[bytes] = [text.encode() for text in options.stop_strings]

    @property
    def early(self) -> bool:
        """Whether a row can end before it is full."""
        return len(self._ends) > 0 or len(self._texts) > 0

    def __call__(self, ids: Tensor) -> Tensor:
        """ids [N, n] → [N] bool, by the last token of each row."""
        if ids.shape[1] >= self.length:
            return torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        ended = torch.isin(ids[:, -1], self._ends)
        if self._texts:
            ended |= torch.tensor([self._completes(row) for row in ids.tolist()], device=ids.device)
        return ended

    def _completes(self, ids: list[int]) -> bool:
        """Whether a stop string ends within the last token, by as many bytes before it as the longest one has."""
        last, reach = self._spelling(ids[-1]), max(map(len, self._texts)) - 1
        before = b""
        for token in reversed(ids[:-1]):
            if len(before) >= reach:
                break
            before = self._spelling(token) + before
        return any(text in before[len(before) - min(len(before), len(text) - 1) :] + last for text in self._texts)

    def _spelling(self, token: int) -> bytes:
        """The bytes of a token that the model chose, whose vocabulary may be larger than the tokenizer's."""
        assert self._tokenizer is not None
        try:
            return self._tokenizer.spelling(token)
        except InputError:
            return unknown_token(token).encode()
