"""Reading files that anyone may have made: regular ones of a bounded size, and one sentence for a parser's errors."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixtral_probe.errors import InputError
from mixtral_probe.paths import refuse_pointer

MIB, GIB = 2**20, 2**30
_LONGEST = 300  # characters of a parser's own words
_OTHERS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a disk"))


def require_file(path: Path) -> None:
    """Check that a path is no pipe, socket or device, which may have no end, and may wait for ever when opened.

    Raises:
        OSError: there is nothing at the path, or it cannot be looked at.
        InputError: it is one of these.
    """
    mode = path.stat().st_mode
    for is_kind, kind in _OTHERS:
        if is_kind(mode):
            raise InputError(f"{path} must be a file, got {kind}; copy its content into a file")


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a file.

    Args:
        path: of the file.
        most: bytes it may have.

    Raises:
        OSError: it is missing or cannot be read.
        InputError: it is larger, no regular file, or a pointer of Git LFS.
    """
    require_file(path)
    if path.stat().st_size <= most:
        refuse_pointer(path)
        with path.open("rb") as file:
            content = file.read(most + 1)  # a file that the system makes up may have more than its size says
        if len(content) <= most:
            return content
    raise InputError(f"{path.name} must have at most {_bytes(most)}, got more in {path}; name another file")


def read_text(path: Path, most: int) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Args:
        path: of the file, which exists.
        most: bytes it may have.

    Raises:
        InputError: it is no UTF-8, cannot be read, or breaks a rule of ``read_bounded``.
    """
    try:
        return read_bounded(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"a text file must be UTF-8, got {path}, which is not at byte {error.start}; convert it first"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the error of a file that the operating system does not open."""
    why = (error.strerror or str(error)).lower()
    return InputError(f"{path} must be a file that can be read, got {why!r}; change its permissions or name another")


def _bytes(count: int) -> str:
    return f"{count / GIB:g} GiB" if count >= GIB else f"{count / MIB:g} MiB"


@contextmanager
def one_sentence(rule: str, what: object, remedy: str) -> Iterator[None]:
    """Convert whatever a parser raises to one InputError: "RULE, got WHAT with an error: …; REMEDY".

    Input that anyone may have made can make a parser raise anything; what comes out of a reader is a sentence that
    names the input. The parser's error is its cause. Other InputErrors pass.

    Args:
        rule: what the input must be.
        what: its path or name.
        remedy: what to do.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{rule}, got {what}{_fault(error)}; {remedy}") from error


def _fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return ", nested too deep"
    if isinstance(error, MemoryError):
        return ", which needs more memory than there is"
    if isinstance(error, KeyError):
        return f" without {error}"
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f" with an error: {line.rstrip('.') if len(line) <= _LONGEST else line[:_LONGEST] + ' …'}"
