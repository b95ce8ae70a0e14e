"""The lock of an output: a file or folder is written by one run at a time, and a killed run leaves no lock.

Beside `NAME` there is `.NAME.lock` while a run writes it. Its content says who: process, host, start. What counts is
the lock of the operating system on that file, which ends with the process, however it ends. Where the file system has
no such locks, the content counts: its owner is gone if it is of this host and no process has its number and its start.
"""

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mixtral_probe.errors import InputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What the operating system answers where a file system has no locks."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that writes an output."""

    process: int
    host: str
    started: str
    """When the process started, as the operating system counts it, with the boot: a number used again differs."""
    since: str
    """When the lock was taken, UTC."""

    @classmethod
    def current(cls) -> "Owner":
        """This process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), _start_of(os.getpid()), now)

    @classmethod
    def read(cls, path: Path) -> "Owner | None":
        """Read the owner that a lock file names; None where it names none, or is gone."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def gone(self) -> bool:
        """Whether it is of this host and no longer runs."""
        return self.host == socket.gethostname() and self.started != _start_of(self.process)


def _start_of(process: int) -> str:
    """When a process started; "" where there is no such process, "unknown" where the system does not say when."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except (OSError, OverflowError):
        pass
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return "unknown"


@dataclass(slots=True)
class _Held:
    """A lock that a thread of this process has, and how many times."""

    process: int
    thread: int
    handle: int | None
    """Of the locked file; None where there are no locks."""
    count: int = 1


_HELD: dict[Path, _Held] = {}
_GUARD = threading.RLock()  # a builder that is collected releases its lock wherever the collector runs


class OutputLock:
    """Keeps other processes and threads from writing an output, until it is released; a context manager.

    A thread may take the lock of one output several times; it is free when all of them are released.

    Args:
        target: the file or folder to be written, whose folder exists.

    Raises:
        InputError: another process or thread is writing it.
        OSError: the folder cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._path = target.parent.resolve() / f".{target.name}.lock"
        with _GUARD:
            held = _HELD.get(self._path)
            mine = held is not None and (held.process, held.thread) == (os.getpid(), threading.get_ident())
            if held is not None and mine:
                held.count += 1
            else:
                _HELD[self._path] = held = _taken(self._path, target)
        self.first = held.count == 1
        """Whether this thread did not have the lock yet."""
        self._held: _Held | None = held

    def release(self) -> None:
        """Release it; again has no effect."""
        held, self._held = self._held, None
        if held is None or held.process != os.getpid():  # a copy in a forked process
            return
        with _GUARD:
            held.count -= 1
            if not held.count:
                del _HELD[self._path]
                self._path.unlink(missing_ok=True)
                if held.handle is not None:
                    os.close(held.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def _taken(path: Path, target: Path) -> _Held:
    handle = _locked_file(path, target)
    if handle is None:
        _create_alone(path, target)
    else:
        os.ftruncate(handle, 0)
        os.pwrite(handle, _content(), 0)
    return _Held(os.getpid(), threading.get_ident(), handle)


def _locked_file(path: Path, target: Path) -> int | None:
    """Create and lock a file; None where there are no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise _refusal(path, target) from None
        except OSError as error:
            os.close(handle)
            if error.errno not in _NO_LOCKS:
                raise
            return None
        os.close(handle)  # its owner removed it before it was locked here


def _is_at(handle: int, path: Path) -> bool:
    """Whether the file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _create_alone(path: Path, target: Path) -> None:
    """Create the file where there is none, or one whose owner is gone; what `_locked_file` left is empty."""
    while True:
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(_content())
        try:
            os.link(part, path)
            return
        except FileExistsError:
            _remove_left(path, target)
        finally:
            part.unlink()


def _remove_left(path: Path, target: Path) -> None:
    """Remove the file of an owner that is gone, unless another has replaced it."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):  # it was removed meanwhile
        owner = Owner.read(path)
        if path.stat().st_size and (owner is None or not owner.gone):
            raise _refusal(path, target)
        path.rename(aside)
        if Owner.read(aside) == owner:
            aside.unlink()
        else:
            aside.rename(path)


def _content() -> bytes:
    return json.dumps(asdict(Owner.current())).encode()


def _refusal(path: Path, target: Path) -> InputError:
    owner = Owner.read(path)
    who = "another run" if owner is None else f"process {owner.process} on {owner.host}, since {owner.since}"
    return InputError(
        f"{target} is written by one run at a time, got one that is running ({who}); "
        "wait until it ends, stop it, or name another place"
    )
