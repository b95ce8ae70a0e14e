"""The end of a row: its full length, a stop id, a stop string, the time, or what the caller says."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.spelling import TokenSpelling, spelling_of

Criterion = Callable[[Tensor, tuple[Tensor, ...] | None], Tensor | bool]
"""ids [N, n] and the scores of each step, if they are kept → [N] bool, or one for all rows; as in transformers."""


class Stops:
    """Finds rows that end.

    Args:
        length: ids of a full row, those of the prompt included.
        criteria: further ones, of the caller.
    """

    def __init__(
        self,
        options: GenerationOptions,
        length: int,
        device: torch.device,
        tokenizer: TokenSpelling | None,
        criteria: Sequence[Criterion] = (),
    ) -> None:
        if options.stop_strings:
            self._spelling = spelling_of(tokenizer)
        self.length, self._criteria = length, tuple(criteria)
        self._deadline = None if options.max_time is None else time.monotonic() + options.max_time
        self._ends = torch.tensor(options.ends, dtype=torch.int64, device=device)
        self._texts: Sequence[bytes] = [text.encode() for text in options.stop_strings]

    @property
    def early(self) -> bool:
        """Whether a row can end before it is full."""
        return len(self._ends) > 0 or len(self._texts) > 0 or len(self._criteria) > 0

    def __call__(self, ids: Tensor, scores: Sequence[Tensor] | None = None) -> Tensor:
        """ids [N, n] and the scores of each step, if they are kept → [N] bool."""
        if ids.shape[1] >= self.length or (self._deadline is not None and time.monotonic() > self._deadline):
            return torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        ended = torch.isin(ids[:, -1], self._ends)
        if self._texts:
            ended |= torch.tensor([self._completes(row) for row in ids.tolist()], device=ids.device)
        for criterion in self._criteria:
            ended = ended | criterion(ids, None if scores is None else tuple(scores))
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
