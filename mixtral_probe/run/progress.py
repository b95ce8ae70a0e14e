"""How far a run is, and the error that ends it early."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is after one of its forward passes."""

    documents: int
    total_documents: int
    tokens: int
    total_tokens: int
    seconds: float
    """Since the run started."""
    started_at: int = 0
    """Tokens that an earlier, interrupted run completed."""

    @property
    def complete(self) -> bool:
        """Whether all tokens and documents are done."""
        return (self.tokens, self.documents) == (self.total_tokens, self.total_documents)

    @property
    def tokens_per_second(self) -> float:
        """Speed of this run."""
        return (self.tokens - self.started_at) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed so far; None before the first pass."""
        speed = self.tokens_per_second
        return (self.total_tokens - self.tokens) / speed if speed else None


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


class RunStoppedError(Exception):
    """The caller stopped the run; a run that writes to disk keeps what is complete and continues from it."""
