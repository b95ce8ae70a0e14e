"""Atomic writing of files and folders: under a final name there is always whole content that has reached the disk.

Content is written under a temporary name next to its target, `.NAME.PID-TOKEN.partial`, synchronized with the disk and
renamed; then the folder around it is synchronized. A writer has the lock of its target (`output_lock`), so that a
second one is refused; what a writer finds under such names was left by a process that was killed, and is removed.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError
from mixtral_probe.output_lock import OutputLock
from mixtral_probe.paths import checked_path

GB = 1e9
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
_ALMOST_FULL = 2**20
PARTIAL, REPLACED = "partial", "replaced"
"""Suffixes of temporary names: of what is being written, and of a folder while a new one gets its name."""


@contextmanager
def plain_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """Convert errors of the operating system to one InputError that names the path and the reason.

    Args:
        path: of the file or folder to be written.
        needed: its size in bytes, 0 where unknown.
    """
    try:
        yield
    except OSError as error:
        raise InputError(_write_sentence(path, error, needed)) from None


def _write_sentence(path: Path, error: OSError, needed: int) -> str:
    number = error.errno
    if number is None and _CUT_SHORT.search(str(error)):  # NumPy says how many items it wrote, not why
        number = errno.ENOSPC if free_bytes(path) < _ALMOST_FULL else errno.EFBIG
    if number == errno.ENOSPC:
        return _space_sentence(path, needed)
    if number in (errno.EDQUOT, errno.EFBIG):
        limit = "the quota of this account" if number == errno.EDQUOT else "the largest file allowed (ulimit -f)"
        need = f" of {needed / GB:.3g} GB" if needed else ""
        return f"a file{need} must fit into {limit}, got one beyond it at {path}; raise the limit or name another place"
    reason = (error.strerror or str(error)).lower()
    return f"{path} must be writable, got {reason!r}; name another place"


def _space_sentence(path: Path, needed: int) -> str:
    need = f"{needed / GB:.3g} GB of" if needed else "more"
    return f"writing {path} needs {need} free disk space, got {free_bytes(path) / GB:.3g} GB; name another place"


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of `path`, which need not exist yet."""
    folder = checked_path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(path: Path, needed: int) -> None:
    """Raise InputError when the disk of `path` has less than `needed` bytes free."""
    if needed > free_bytes(path):
        raise InputError(_space_sentence(path, needed))


def allocate(path: Path, size: int) -> None:
    """Create a file of `size` zero bytes whose blocks are reserved, so that a full disk is an error now, not later."""
    with plain_errors(path, size), path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def check_target(path: Path, marker: str) -> None:
    """Raise InputError unless `path` is free, an empty folder, or a folder with the file `marker` in it."""
    path = checked_path(path)
    if path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise InputError(
            f"{path} must be a new or empty folder, or one with {marker} in it, got a folder with other contents; "
            "name another place"
        )
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} must be a folder, got a file; name another place")


def write_file(path: str | PathLike[str], write: Callable[[Path], Any]) -> Path:
    """Write one file whole or not at all; return its path.

    Args:
        path: of the file; an older one is replaced.
        write: writes the content to the path in its argument.

    Raises:
        InputError: the file cannot be written there.
    """
    target = checked_path(path)
    with plain_errors(target), _temporary(target, Path.touch) as part:
        write(part)
        sync(part)
        part.replace(target)
        sync(target.parent)
    return target


def write_bytes(path: str | PathLike[str], content: bytes) -> Path:
    """Write a small file whole or not at all; return its path."""
    return write_file(path, lambda part: part.write_bytes(content))


def write_folder(path: Path, marker: str, fill: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all.

    Args:
        path: of the folder; an older one of the same kind is replaced.
        marker: the file that identifies a folder of this kind.
        fill: writes the content into the folder in its argument.

    Raises:
        InputError: something else has that name, or the folder cannot be written there.
    """
    check_target(path, marker)
    with plain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, Path.mkdir) as folder:
            fill(folder)
            publish(folder, path, marker)


def write_into(folder: Path, fill: Callable[[Path], Sequence[str]]) -> None:
    """Write several files into a folder whose other files stay: each of them whole or not at all.

    Args:
        folder: exists.
        fill: writes files into the folder in its argument and returns their names in the order of their final renames.

    Raises:
        InputError: the folder cannot be written.
    """
    with plain_errors(folder), _temporary(folder / "files", Path.mkdir) as part:
        names = fill(part)
        for name in names:
            sync(part / name)
        for name in names:
            (part / name).replace(folder / name)
        sync(folder)


def publish(folder: Path, path: Path, marker: str) -> None:
    """Rename a finished folder to `path` after its content has reached the disk; an older one is replaced."""
    check_target(path, marker)
    for entry in [*folder.rglob("*"), folder]:
        sync(entry)
    if path.is_dir() and any(path.iterdir()):
        _replace_folder(folder, path)
    else:
        folder.rename(path)
    sync(path.parent)


def _replace_folder(folder: Path, path: Path) -> None:
    # A full folder cannot be renamed over. After a kill in between, `remove_stale` renames the old one back.
    old = path.rename(_temporary_name(path, REPLACED))
    folder.rename(path)
    shutil.rmtree(old)


def discard(folder: Path, target: Path) -> None:
    """Remove a folder that the writing of `target` used; after a kill in between, `remove_stale` removes the rest."""
    if folder.exists():
        shutil.rmtree(folder.rename(_temporary_name(target, PARTIAL)))


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale(target: Path) -> None:
    """Remove the temporaries of a target, and restore a folder that was renamed for a new one; its lock is held."""
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+-[0-9a-f]+\.({PARTIAL}|{REPLACED})")
    entries = list(target.parent.iterdir()) if target.parent.is_dir() else []
    for entry in entries:
        if name.fullmatch(entry.name):
            with suppress(OSError):  # another user owns it
                _restore_or_remove(entry, target)


def _restore_or_remove(entry: Path, target: Path) -> None:
    if entry.suffix == f".{REPLACED}" and not target.exists():
        entry.rename(target)
    else:
        _remove(entry)


def lock_output(target: Path) -> OutputLock:
    """Take the lock of a file or folder to be written, and create the folder around it.

    Raises:
        InputError: another process or thread is writing it, or it cannot be written there.
    """
    with plain_errors(target):
        if target.parent.exists() and not target.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        return OutputLock(target)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Keep others from writing a file or folder while open, and remove what a killed writer of it left.

    Raises:
        InputError: another process or thread is writing it.
    """
    with OutputLock(target) as lock:
        if lock.first:
            remove_stale(target)
        yield


@contextmanager
def _temporary(target: Path, create: Callable[[Path], Any]) -> Iterator[Path]:
    """Create a file or folder next to `target`, removed at the end unless it was renamed."""
    with writing(target):
        part = _temporary_name(target, PARTIAL)
        create(part)
        try:
            yield part
        finally:
            _remove(part)


def _temporary_name(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.{ending}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
