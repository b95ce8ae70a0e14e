"""What a verb writes: checked before it runs, which may take hours, and kept from others until it ends."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path

if TYPE_CHECKING:
    from mixtral_probe.output_lock import OutputLock

P = ParamSpec("P")
_MARKERS = {"trace": "trace.storage.folder", "result": "trace.results.result", "report": "report.write"}
"""The modules that name the file by which a folder of a kind is known."""
_FILES = ("csv", "chrome")
"""Options that name a single file."""


def reserves(kind: Literal["trace", "result", "report", "what-if"]) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a verb check and lock what ``--out``, a folder of a kind, ``--csv`` and ``--chrome`` name, before it runs.

    Such a verb raises InputError where something cannot or must not be written there, or is being written.
    """

    def decorate(verb: Callable[P, None]) -> Callable[P, None]:
        @wraps(verb)
        def reserved(*args: P.args, **kwargs: P.kwargs) -> None:
            with ExitStack() as stack:
                if (out := _path(kwargs, "out")) is not None:
                    stack.enter_context(_locked_folder(out, kind))
                for file in filter(None, (_path(kwargs, name) for name in _FILES)):
                    stack.enter_context(_locked_file(file))
                verb(*args, **kwargs)

        return reserved

    return decorate


def _path(options: dict[str, Any], name: str) -> Path | None:
    path: Path | None = options.get(name)
    return None if path is None else checked_path(path)


def _locked_folder(folder: Path, kind: str) -> "OutputLock":
    from mixtral_probe.files import check_target, lock_output, plain_errors

    with plain_errors(folder):
        if kind == "what-if":
            import_module("mixtral_probe.trace.results").require_free(folder)
        else:
            check_target(folder, import_module(f"mixtral_probe.{_MARKERS[kind]}").MARKER)
    return lock_output(folder)


def _locked_file(file: Path) -> "OutputLock":
    from mixtral_probe.files import plain_errors
    from mixtral_probe.output_lock import OutputLock

    if file.is_dir():
        raise InputError(f"{file} must be a file, got a folder; name another place")
    with plain_errors(file):
        return OutputLock(file)
