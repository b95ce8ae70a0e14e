"""The one loop over batches: every run of documents through a model goes through it."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch

from mixtral_probe.instruments import Window
from mixtral_probe.run.allocator import keep_freed_memory
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.plan import Plan, batches
from mixtral_probe.run.progress import Progress, RunStoppedError


@dataclass(slots=True)
class Step:
    """One forward pass, or a few that belong together."""

    tokens: int
    """Reported when the step ends; to lower it during the step lowers the run's total too."""


class Passes:
    """The forward passes of one run: in inference mode, stopped between two of them, each reported.

    Args:
        options: of the run.
        documents, tokens: totals of the run, as ``Progress`` reports them.
        documents_done, tokens_done: of these, what an earlier, interrupted run completed.
    """

    def __init__(
        self, options: RunOptions, *, documents: int = 0, tokens: int = 0, documents_done: int = 0, tokens_done: int = 0
    ) -> None:
        keep_freed_memory()
        self._options = options
        self._total_documents, self._total_tokens = documents, tokens
        self._documents, self._tokens, self._tokens_before = documents_done, tokens_done, tokens_done
        self._start = time.monotonic()

    @classmethod
    def of(cls, planned: Plan, options: RunOptions, times: int = 1) -> Self:
        """Passes that run the whole plan some times."""
        return cls(options, documents=times * len(planned.documents), tokens=times * len(planned.token_ids))

    def check_stop(self) -> None:
        """Raise RunStoppedError where ``should_stop`` returns True."""
        if self._options.should_stop is not None and self._options.should_stop():
            raise RunStoppedError

    @contextmanager
    def step(self, tokens: int = 0, documents: int = 0) -> Iterator[Step]:
        """Run the body as one step, unless the run is to stop, and report the tokens and documents it completes."""
        self.check_stop()
        step = Step(tokens)
        with torch.inference_mode():
            yield step
        self._total_tokens -= tokens - step.tokens
        self._tokens += step.tokens
        self.complete(documents)

    def skip(self, tokens: int, documents: int) -> None:
        """Report that some tokens of the total need not run, and that documents are complete without them."""
        self._total_tokens -= tokens
        self.complete(documents)

    def complete(self, documents: int) -> None:
        """Report that more documents are complete."""
        self._documents += documents
        if self._options.on_progress is not None:
            self._options.on_progress(
                Progress(
                    self._documents, self._total_documents, self._tokens, self._total_tokens,
                    time.monotonic() - self._start, self._tokens_before,
                )
            )  # fmt: skip

    def over(
        self, planned: Plan, device: torch.device, forward: Callable[[Batch], None],
        windows: Sequence[Window] | None = None,
    ) -> None:  # fmt: skip
        """Call ``forward`` with every batch of a plan, or of some of its windows, one step each.

        A function and not an iterator, since inference mode must end with the batch, also when it raises.
        """
        for batch in model_batches(planned, device, self._options, windows):
            with self.step(len(batch.rows), len(batch.completes)):
                forward(batch)


def model_batches(
    planned: Plan, device: torch.device, options: RunOptions, windows: Sequence[Window] | None = None
) -> Iterator[Batch]:
    """The batches of a plan, or of some of its windows, as the model takes them."""
    pending = planned.windows if windows is None else windows
    left = Counter(window.document for window in pending)
    for some in batches(pending, options.positions_in_a_batch):
        left.subtract(window.document for window in some)
        completes = tuple(d for d in dict.fromkeys(window.document for window in some) if not left[d])
        yield Batch.of(planned.token_ids, some, device, completes)
