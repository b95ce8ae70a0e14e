"""Work in line: one worker thread for the whole process, any number of sessions that ask."""

import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.jobs import limits
from mixtral_probe import InputError


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Job:
    """What is known of one job at one moment."""

    id: str
    session: str
    """Who asked for it; nobody else is told of it, unless it is published."""
    name: str
    about: str
    kind: str = "capture"
    """What its work makes, in a word."""
    published: bool = False
    """Whether every session may see its result."""
    state: State = State.WAITING
    progress: Any = None
    """What the work last said of itself."""
    result: Path | None = None
    """A folder, once done."""
    error: str = ""
    """Why it failed, in one sentence."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in (State.DONE, State.FAILED, State.STOPPED)


class StoppedError(Exception):
    """Raised by work that stopped because it was asked to."""


Work = Callable[[Path, Callable[[Any], None], Callable[[], bool]], None]
"""Writes a result to a path, tells of its progress, asks whether to stop."""


@dataclass
class _Entry:
    job: Job
    work: Work | None
    stop: threading.Event = field(default_factory=threading.Event)


class JobRegistry:
    """Runs one job after the other and remembers what came of them. Every method may be called from any thread.

    Args:
        folder: private to this registry; a result lies in it under its job's id.
        keep: finished jobs remembered; older ones are forgotten with their results.
    """

    def __init__(self, folder: Path, *, keep: int = limits.RESULTS_KEPT) -> None:
        self._folder, self._keep = folder, keep
        self._entries: dict[str, _Entry] = {}
        self._line: deque[str] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="jobs", daemon=True).start()

    def submit(self, session: str, name: str, about: str, work: Work, *, kind: str = "capture") -> str:
        """Put work in line; returns the job's id.

        Raises:
            InputError: the line, or this session's part of it, is full.
        """
        with self._changed:
            waiting = [self._entries[job_id].job.session for job_id in self._line]
            if len(waiting) >= limits.JOBS_WAITING or waiting.count(session) >= limits.JOBS_WAITING_EACH:
                raise InputError(
                    f"at most {limits.JOBS_WAITING_EACH} jobs of yours and {limits.JOBS_WAITING} in all can "
                    f"wait, but {waiting.count(session)} and {len(waiting)} do; wait for one to finish, or cancel one"
                )
            job = Job(uuid.uuid4().hex, session, name, about, kind)
            self._entries[job.id] = _Entry(job, work)
            self._line.append(job.id)
            self._changed.notify_all()
        return job.id

    def of(self, session: str, kind: str | None = None) -> list[Job]:
        """The jobs of one session, of one kind or of any, oldest first."""
        with self._changed:
            jobs = [entry.job for entry in self._entries.values()]
        return [job for job in jobs if job.session == session and kind in (None, job.kind)]

    def publish(self, session: str, job_id: str, published: bool) -> None:
        """Let every session see the result of a job of this session, or no other any more."""
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is not None and entry.job.session == session:
                entry.job = replace(entry.job, published=published)

    def published(self, kind: str) -> list[Job]:
        """The finished jobs of a kind that every session may see, oldest first."""
        with self._changed:
            jobs = [entry.job for entry in self._entries.values()]
        return [job for job in jobs if job.published and job.kind == kind and job.state is State.DONE]

    def place(self, job_id: str) -> int:
        """How many jobs come before a waiting one, the running one included; 0 for any other."""
        with self._changed:
            running = any(entry.job.state is State.RUNNING for entry in self._entries.values())
            return self._line.index(job_id) + running if job_id in self._line else 0

    def cancel(self, session: str, job_id: str) -> None:
        """Take a waiting job of this session out of the line, or ask the running one to stop."""
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None or entry.job.session != session:
                return
            entry.stop.set()
            if job_id in self._line:
                self._line.remove(job_id)
                self._finish(entry, State.STOPPED)

    def wait(self, job_id: str, seconds: float) -> Job:
        """The job once it is over, or as it is after so many seconds."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self._entries[job_id].job.over and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._entries[job_id].job

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._line:
                    self._changed.wait()
                entry = self._entries[self._line.popleft()]
                entry.job = replace(entry.job, state=State.RUNNING)
            self._run(entry)

    def _run(self, entry: _Entry) -> None:
        path = self._folder / entry.job.id
        assert entry.work is not None
        try:
            entry.work(path, lambda progress: self._tell(entry, progress), entry.stop.is_set)
            outcome: dict[str, Any] = {"state": State.DONE, "result": path}
        except StoppedError:
            outcome = {"state": State.STOPPED}
        except InputError as error:
            outcome = {"state": State.FAILED, "error": str(error)}
        except Exception as error:  # whatever one job does, the next one in line must run
            outcome = {"state": State.FAILED, "error": f"the {entry.job.kind} failed: {type(error).__name__}: {error}"}
        with self._changed:
            self._finish(entry, **outcome)

    def _tell(self, entry: _Entry, progress: Any) -> None:
        with self._changed:
            entry.job = replace(entry.job, progress=progress)

    def _finish(self, entry: _Entry, state: State, **more: Any) -> None:
        """Note how a job ended, let go of its texts, and forget the oldest that are over."""
        entry.job, entry.work = replace(entry.job, state=state, **more), None
        if state is not State.DONE:
            self._remove(entry.job.id)
        over = [job_id for job_id, entry in self._entries.items() if entry.job.over]
        for job_id in over[: max(0, len(over) - self._keep)]:
            del self._entries[job_id]
            self._remove(job_id)
        self._changed.notify_all()

    def _remove(self, job_id: str) -> None:
        for path in self._folder.glob(f"{job_id}*"):
            shutil.rmtree(path, ignore_errors=True)
