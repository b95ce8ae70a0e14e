"""The queue of jobs: one worker thread for the process, jobs of any number of sessions."""

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
    """The stages of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Job:
    """A snapshot of one job."""

    id: str
    session: str
    """Of its owner; no other session can see it, unless it is published."""
    name: str
    about: str
    kind: str = "capture"
    """What its work produces, in a word."""
    published: bool = False
    """Whether every session may see its result."""
    state: State = State.WAITING
    progress: Any = None
    """The last report of its work."""
    result: Path | None = None
    """A folder, once done."""
    error: str = ""
    """Why it failed, in one sentence."""

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or stopped."""
        return self.state in (State.DONE, State.FAILED, State.STOPPED)


class StoppedError(Exception):
    """Raised by work that ended because its `should_stop` was true."""


Work = Callable[[Path, Callable[[Any], None], Callable[[], bool]], None]
"""Writes a result to a path, reports its progress and checks whether to stop."""


@dataclass
class _Entry:
    job: Job
    work: Work | None
    stop: threading.Event = field(default_factory=threading.Event)


class JobRegistry:
    """Runs one job after the other and keeps their results. Every method may be called from any thread.

    Args:
        folder: private to this registry; a result is stored in it under its job's id.
        keep: number of finished jobs; older ones are deleted with their results.
    """

    def __init__(self, folder: Path, *, keep: int = limits.RESULTS_KEPT) -> None:
        self._folder, self._keep = folder, keep
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="jobs", daemon=True).start()

    def submit(self, session: str, name: str, about: str, work: Work, *, kind: str = "capture") -> str:
        """Put work in the queue and return the job's id.

        Raises:
            InputError: the queue, or this session's part of it, is full.
        """
        with self._changed:
            waiting = [self._entries[job_id].job.session for job_id in self._waiting]
            if len(waiting) >= limits.JOBS_WAITING or waiting.count(session) >= limits.JOBS_WAITING_EACH:
                raise InputError(
                    f"at most {limits.JOBS_WAITING_EACH} jobs of yours and {limits.JOBS_WAITING} in all can wait, "
                    f"got {waiting.count(session)} and {len(waiting)}; wait for one to finish, or cancel one"
                )
            job = Job(uuid.uuid4().hex, session, name, about, kind)
            self._entries[job.id] = _Entry(job, work)
            self._waiting.append(job.id)
            self._changed.notify_all()
        return job.id

    def of(self, session: str, kind: str | None = None) -> list[Job]:
        """List the jobs of one session, of one kind or of any, oldest first."""
        with self._changed:
            jobs = [entry.job for entry in self._entries.values()]
        return [job for job in jobs if job.session == session and kind in (None, job.kind)]

    def publish(self, session: str, job_id: str, published: bool) -> None:
        """Show the result of a job of this session to every session, or to this one alone again."""
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is not None and entry.job.session == session:
                entry.job = replace(entry.job, published=published)

    def published(self, kind: str) -> list[Job]:
        """List the published results of a kind, oldest first."""
        with self._changed:
            jobs = [entry.job for entry in self._entries.values()]
        return [job for job in jobs if job.published and job.kind == kind and job.state is State.DONE]

    def place(self, job_id: str) -> int:
        """Count the jobs before a waiting one, including the running one; 0 for any other."""
        with self._changed:
            running = any(entry.job.state is State.RUNNING for entry in self._entries.values())
            return self._waiting.index(job_id) + running if job_id in self._waiting else 0

    def cancel(self, session: str, job_id: str) -> None:
        """Take a waiting job of this session out of the queue, or stop the running one."""
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None or entry.job.session != session:
                return
            entry.stop.set()
            if job_id in self._waiting:
                self._waiting.remove(job_id)
                self._finish(entry, State.STOPPED)

    def wait(self, job_id: str, seconds: float) -> Job:
        """Wait until a job has ended, at most so many seconds, and return it."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self._entries[job_id].job.ended and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._entries[job_id].job

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                entry = self._entries[self._waiting.popleft()]
                entry.job = replace(entry.job, state=State.RUNNING)
            self._run(entry)

    def _run(self, entry: _Entry) -> None:
        path = self._folder / entry.job.id
        assert entry.work is not None
        try:
            entry.work(path, lambda progress: self._set_progress(entry, progress), entry.stop.is_set)
            outcome: dict[str, Any] = {"state": State.DONE, "result": path}
        except StoppedError:
            outcome = {"state": State.STOPPED}
        except InputError as error:
            outcome = {"state": State.FAILED, "error": str(error)}
        except Exception as error:  # a failed job must not stop the queue
            outcome = {"state": State.FAILED, "error": f"the {entry.job.kind} failed: {type(error).__name__}: {error}"}
        with self._changed:
            self._finish(entry, **outcome)

    def _set_progress(self, entry: _Entry, progress: Any) -> None:
        with self._changed:
            entry.job = replace(entry.job, progress=progress)

    def _finish(self, entry: _Entry, state: State, **more: Any) -> None:
        """Record how a job ended, free its texts, and delete the oldest ended ones."""
        entry.job, entry.work = replace(entry.job, state=state, **more), None
        if state is not State.DONE:
            self._remove(entry.job.id)
        ended = [job_id for job_id, entry in self._entries.items() if entry.job.ended]
        for job_id in ended[: max(0, len(ended) - self._keep)]:
            del self._entries[job_id]
            self._remove(job_id)
        self._changed.notify_all()

    def _remove(self, job_id: str) -> None:
        for path in self._folder.glob(f"{job_id}*"):
            shutil.rmtree(path, ignore_errors=True)
