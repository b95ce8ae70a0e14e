"""The registry of jobs of this process, and the jobs of this session."""

import atexit
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import streamlit as st

from app.jobs.queue import Job, JobRegistry, State, Work
from mixtral_probe import InputError
from mixtral_probe.output_lock import OutputLock

_PREFIX = "mixtral-probe-"


@st.cache_resource(max_entries=1, show_spinner=False)
def registry() -> JobRegistry:
    """Return the registry of this process; its folder is deleted when the process ends, or by the next one."""
    remove_left(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = OutputLock(folder)
    atexit.register(lock.release)  # runs after the next
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return JobRegistry(folder)


def remove_left(parent: Path) -> None:
    """Remove the folders of registries whose processes were killed; those of running ones have a lock."""
    for lock_file in parent.glob(f".{_PREFIX}*.lock"):
        folder = parent / lock_file.name[1:].removesuffix(".lock")
        with suppress(InputError, OSError), OutputLock(folder) as lock:
            if lock.first:
                shutil.rmtree(folder, ignore_errors=True)


def session() -> str:
    """Return the name of this session, known to no other one."""
    return st.session_state.setdefault("session", uuid.uuid4().hex)


def session_jobs(kind: str | None = None) -> list[Job]:
    """List this session's jobs, of one kind or of any, oldest first."""
    return registry().of(session(), kind)


def results(kind: str) -> list[Job]:
    """List this session's finished jobs of a kind, newest first."""
    return [job for job in reversed(session_jobs(kind)) if job.state is State.DONE]


def submit(name: str, about: str, work: Work, kind: str) -> str:
    """Put work of this session in the queue, under a name with the next number, and return its job's id.

    Raises:
        InputError: the queue is full.
    """
    number = st.session_state.get(f"{kind}_number", 0) + 1
    job_id = registry().submit(session(), f"{name} {number}", about, work, kind=kind)
    st.session_state[f"{kind}_number"] = number
    return job_id


def quote(text: str) -> str:
    """Write the beginning of a text in quotation marks."""
    words = " ".join(text.split())
    return f"“{words[:40]}…”" if len(words) > 41 else f"“{words}”"
