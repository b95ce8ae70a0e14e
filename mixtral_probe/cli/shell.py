"""The shell of every verb: mistakes and warnings as one sentence on stderr, exit codes, JSON."""

import json
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import typer

from mixtral_probe.errors import InputError

P = ParamSpec("P")
FAILED, WRONG_INPUT, STOPPED = 1, 2, 130


def plain_errors(verb: Callable[P, None]) -> Callable[P, None]:
    """Wrap a verb: a user's mistake (exit 2) or an error of the system (exit 1) becomes one sentence."""

    @wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                verb(*args, **kwargs)
            except InputError as error:
                fail(str(error), WRONG_INPUT)
            except BrokenPipeError:  # the reader of `… | head` is closed: typer ends quietly
                raise
            except OSError as error:
                fail(_system_sentence(error), FAILED)
            except KeyboardInterrupt:
                fail("stopped", STOPPED)

    return guarded


def fail(sentence: str, code: int) -> NoReturn:
    """Write a sentence on stderr and exit."""
    typer.echo(f"mixtral-probe: {sentence}", err=True)
    raise typer.Exit(code)


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    typer.echo(printable(json.dumps(facts, indent=2, ensure_ascii=False, default=str)))


def printable(text: str) -> str:
    """Return a text with lone surrogates escaped, which no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _system_sentence(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    # Through the current sys.stderr: a progress bar replaces it, and prints above itself.
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
