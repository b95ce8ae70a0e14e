"""A tiny model folder, and the command line run on it in this process."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mixtral_probe.cli import app
from mixtral_probe.resources import data_path
from tests.support.models import SIZES, toy_model


def toy_folder(folder: Path) -> Path:
    """A random model of 3 layers and 8 experts, with the embedded model's tokenizer."""
    toy_model(vocab_size=8192, **SIZES).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(data_path("mixtral-mini") / name, folder)
    return folder


def run(*arguments: Any) -> Any:
    """What `mixtral-probe ARGUMENTS` answers: `.exit_code`, `.stdout`, `.stderr`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def refused(*arguments: Any, code: int = 2) -> str:
    """The one sentence a mistake is answered with."""
    result = run(*arguments)
    assert result.exit_code == code
    *_, sentence = result.stderr.strip().splitlines()
    assert sentence.startswith("mixtral-probe: ")
    assert "Traceback" not in result.stderr
    return sentence


@contextmanager
def interrupting() -> Iterator[Callable[[Any], None]]:
    """A progress display that sends SIGINT, as Ctrl-C does, after the first batch."""

    def interrupt(progress: Any) -> None:
        if progress.documents < progress.total_documents:
            os.kill(os.getpid(), signal.SIGINT)

    yield interrupt
