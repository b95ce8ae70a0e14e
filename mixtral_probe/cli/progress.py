"""Progress of a run, on a terminal as a bar and elsewhere as lines; and stopping it with Ctrl-C."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from mixtral_probe.cli import words
from mixtral_probe.cli.shell import STOPPED, fail

if TYPE_CHECKING:
    from mixtral_probe.run import Progress

T = TypeVar("T")
LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def show_progress() -> Iterator[Callable[["Progress"], None]]:
    """A listener for `Probe.trace` that writes to stderr."""
    if sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _lines()


def describe(progress: "Progress") -> str:
    """Documents, tokens per second, time left."""
    left = progress.seconds_left
    until = "" if left is None else f", {words.duration(left)} left"
    documents = f"{progress.documents:,} of {words.counted(progress.total_documents, 'document')}"
    return f"{documents}, {progress.tokens_per_second:,.0f} tokens/s{until}"


@contextmanager
def _bar() -> Iterator[Callable[["Progress"], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %  {task.description}", markup=False))
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None)

        def update(progress: "Progress") -> None:
            bar.update(task, total=progress.total_tokens, completed=progress.tokens, description=describe(progress))

        yield update


def _lines() -> Callable[["Progress"], None]:
    last = time.monotonic()

    def update(progress: "Progress") -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY or progress.complete:
            last = time.monotonic()
            typer.echo(describe(progress), err=True)

    return update


def counter(noun: str) -> Callable[[int, int], None] | None:
    """A function of done and total that rewrites one line of a terminal; None where there is no terminal."""
    if not sys.stderr.isatty():
        return None

    def update(done: int, total: int) -> None:
        typer.echo(f"\r{done} of {total} {noun}" + ("\n" if done == total else ""), err=True, nl=False)

    return update


@contextmanager
def stop_between_batches() -> Iterator[Callable[[], bool]]:
    """While open, Ctrl-C only sets a flag, which the yielded function returns; a second Ctrl-C stops at once."""
    stopped = False

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True
        print("stopping after this batch; Ctrl-C again stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: stopped
    finally:
        signal.signal(signal.SIGINT, before)


def run_or_stop(run: Callable[..., T], *, kept: str, **how: Any) -> T:
    """Run with progress on stderr; where Ctrl-C stops the run, exit with a sentence about what is ``kept``."""
    from mixtral_probe.run import RunStoppedError

    with stop_between_batches() as stopped, show_progress() as progress:
        try:
            return run(on_progress=progress, should_stop=stopped, **how)
        except RunStoppedError:
            pass
    fail(f"stopped; {kept}", STOPPED)
