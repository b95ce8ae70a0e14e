"""One input for one reader: what came of it, how long it took, and the memory of many."""

import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from mixtral_probe import InputError
from mixtral_probe.tokenizer import chat_process
from tests.hostile.readers import Reader

SECONDS = 20
"""For one input, on a busy machine."""


class TooSlowError(Exception):
    """An input took longer than `SECONDS`."""


@dataclass
class Figures:
    """The sums over the inputs of one reader."""

    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    slowest_seed: int = 0
    peak_bytes: int = 0
    """The most memory, beyond that at the start."""
    faults: dict[str, str] = field(default_factory=dict)
    """The last line and place of each other error → the whole of the first."""
    tracebacks: int = 0


def tried(reader: Reader, seeds: range, figures: Figures | None = None, until: float = float("inf")) -> Figures:
    """Give a reader one input for each seed, up to a time of `time.monotonic`."""
    figures = figures or Figures()
    with tempfile.TemporaryDirectory() as folder, _patient(), _peak(figures):
        (valid := Path(folder) / "valid").mkdir()
        reader.prepare(valid)
        if reader.valid:
            reader.read(valid)
        for seed in seeds:
            if time.monotonic() > until:
                break
            shutil.copytree(valid, hostile := Path(folder) / "a", symlinks=True)
            reader.mutate(hostile, Random(f"{reader.name} {seed}"))
            _try(reader, hostile, seed, figures)
            shutil.rmtree(hostile)
    return figures


def _try(reader: Reader, folder: Path, seed: int, figures: Figures) -> None:
    start = time.monotonic()
    figures.inputs += 1
    try:
        with _timed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
        figures.accepted += 1
    except InputError as error:
        figures.refused += 1
        str(error).encode()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        figures.tracebacks += 1
        frames = traceback.extract_tb(error.__traceback__)
        place = next(
            (f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames) if "mixtral_probe" in f.filename), ""
        )
        key = f"{type(error).__name__} at {place}"
        figures.faults.setdefault(key, f"seed {seed}: " + "".join(traceback.format_exception(error))[-3_000:])
    if (seconds := time.monotonic() - start) > figures.slowest:
        figures.slowest, figures.slowest_seed = seconds, seed


@contextmanager
def _timed() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _patient() -> Iterator[None]:
    """Let templates take a second, not ten."""
    before, chat_process.SECONDS = chat_process.SECONDS, 1.0
    try:
        yield
    finally:
        chat_process.SECONDS = before


@contextmanager
def _peak(figures: Figures) -> Iterator[None]:
    """Measure the most memory of this process, beyond that at the start; Linux counts it anew where it is asked to."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    try:
        yield
    finally:
        figures.peak_bytes = max(figures.peak_bytes, _status("VmHWM") - before)


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)
