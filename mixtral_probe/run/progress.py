"""How far a run is, and how to stop it."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Told after every batch."""

    documents: int
    total_documents: int
    tokens: int
    total_tokens: int
    seconds: float
    """Since the run started."""
    started_at: int = 0
    """Tokens that an earlier, interrupted run had done already."""

    @property
    def tokens_per_second(self) -> float:
        """Of this run."""
        return (self.tokens - self.started_at) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before the first batch."""
        speed = self.tokens_per_second
        return (self.total_tokens - self.tokens) / speed if speed else None


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


class CaptureStoppedError(Exception):
    """The run was asked to stop; what is done is kept on disk, and the same run continues there."""


class Tracker:
    """Counts what is done and tells the listener."""

    def __init__(self, total_documents: int, total_tokens: int, tokens: int, listener: OnProgress | None) -> None:
        self._documents, self._total = total_documents, total_tokens
        self._tokens = self._before = tokens
        self._listener = listener
        self._start = time.monotonic()

    def add(self, tokens: int, documents_done: int, fewer: int = 0) -> None:
        """After a batch: tokens run in it, documents finished so far, tokens that turned out not to be needed."""
        self._tokens += tokens
        self._total -= fewer
        if self._listener:
            seconds = time.monotonic() - self._start
            done = Progress(documents_done, self._documents, self._tokens, self._total, seconds, self._before)
            self._listener(done)
