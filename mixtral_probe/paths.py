"""Paths that users give: what the operating system cannot open is refused in one sentence before it is tried."""

import os
from os import PathLike
from pathlib import Path

from mixtral_probe.errors import InputError

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of a file name and of a path on common systems."""
_POINTER = b"version https://git-lfs"


def checked_path(path: str | PathLike[str]) -> Path:
    """Return a path, with ``~`` for the user's home replaced.

    Raises:
        InputError: no operating system could open it: a NUL character, half of a surrogate pair, or too long.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise InputError(f"a path must have no NUL character, got {_shortened(text)}; remove it")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError(f"a path must be valid Unicode, got {_shortened(text)}; give another") from None
    longest = max(map(len, encoded.split(os.fsencode(os.sep))))
    if longest > LONGEST_NAME or len(encoded) > LONGEST_PATH:
        raise InputError(
            f"a path must have at most {LONGEST_PATH} bytes and a name in it at most {LONGEST_NAME}, got "
            f"{len(encoded)} bytes with a name of {longest}, {_shortened(text)}; give a shorter one"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~NAME of a user that does not exist
        return Path(text)


def refuse_pointer(path: Path) -> None:
    """Raise InputError where a file is a pointer of Git LFS, whose content is not on this machine."""
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        raise InputError(
            f"{path} must be the file itself, got a pointer of Git LFS, {path.stat().st_size} bytes that stand for it; "
            f"get the file with: git lfs pull (in {path.parent})"
        )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:60]}…{text[-15:]}")
