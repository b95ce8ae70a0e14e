"""Making files and folders so that nothing half-written ever stands under its final name."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mixtral_probe.errors import InputError

GB = 1e9


@contextmanager
def plain_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn what the operating system refuses into one sentence that names the path and the reason."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(_full_sentence(path, needed)) from None
        raise InputError(f"{path} must be writable, but {(error.strerror or str(error)).lower()}") from None


def _full_sentence(path: Path, needed: int) -> str:
    need = f"{needed / GB:.3g} GB" if needed else "more"
    return f"writing {path} needs {need}, but only {free_bytes(path) / GB:.3g} GB are free: write elsewhere"


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds `path`, which need not exist yet."""
    folder = path.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(path: Path, needed: int) -> None:
    """Raise InputError when the disk that will hold `path` has less than `needed` bytes free."""
    if needed > free_bytes(path):
        raise InputError(_full_sentence(path, needed))


def allocate(path: Path, size: int) -> None:
    """Make a file of `size` zero bytes whose blocks are really reserved, so a full disk shows now."""
    with plain_errors(path, size), path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def check_target(path: Path, marker: str) -> None:
    """A folder may be written where there is nothing, an empty folder, or a folder with file `marker` in it."""
    if path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise InputError(f"{path} is a folder with other things in it (no {marker}): name another place to write")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, but a folder is to be written there: name another place")


def write_folder(path: Path, marker: str, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a new folder beside `path`, then put it in place in one step.

    An older folder of the same kind (it holds `marker`) is replaced; anything else is refused.
    """
    check_target(path, marker)
    with plain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = _beside(path)
        folder.mkdir()
        try:
            fill(folder)
            publish(folder, path, marker)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, path: Path, marker: str) -> None:
    """Rename a finished folder to `path`, after its bytes have reached the disk."""
    check_target(path, marker)
    for entry in [*folder.iterdir(), folder]:
        sync(entry)
    if path.is_dir() and any(path.iterdir()):
        old = path.rename(_beside(path))
        folder.rename(path)
        shutil.rmtree(old)
    else:
        folder.rename(path)
    sync(path.parent)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def sync(path: Path) -> None:
    """fsync one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_bytes(content)
    sync(partial)
    partial.rename(path)
