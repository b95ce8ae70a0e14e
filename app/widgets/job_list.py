"""The list of this session's jobs: place in the queue, progress, cancel."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.jobs import registry
from app.jobs.queue import Job, State
from app.state import settings

OnDone = Callable[[Job], None]


def watch(kind: str, empty: str, on_done: OnDone, on_new: OnDone | None = None) -> None:
    """Draw this session's jobs of one kind, newest first, and update them while one is under way.

    Args:
        kind: of the jobs.
        empty: a sentence while there is none.
        on_done: draws the buttons of a finished one.
        on_new: called once for each finished job.
    """
    active = any(not job.ended for job in registry.session_jobs(kind))
    every = settings.POLL_SECONDS if active else None
    st.fragment(_jobs, run_every=every)(kind, empty, on_done, on_new)


def _jobs(kind: str, empty: str, on_done: OnDone, on_new: OnDone | None) -> None:
    jobs = registry.session_jobs(kind)
    announced: set[str] = st.session_state.setdefault("announced_jobs", set())
    new = [job for job in jobs if job.state is State.DONE and job.id not in announced]
    for job in new:
        announced.add(job.id)
        if on_new is not None:
            on_new(job)
    under_way = any(not job.ended for job in jobs)
    before, st.session_state[f"{kind}_under_way"] = st.session_state.get(f"{kind}_under_way"), under_way
    if new or (before and not under_way):
        # Before anything is drawn: what is drawn twice could lose a click in between.
        st.rerun()
    if empty and not jobs:
        st.caption(empty)
    for job in reversed(jobs):
        with st.container(border=True):
            _job(job, on_done)


def _job(job: Job, on_done: OnDone) -> None:
    st.markdown(f"**{job.name}**")
    st.text(job.about)
    if job.state is State.WAITING:
        st.caption(f":material/hourglass_empty: Waiting, {registry.registry().place(job.id)} before it")
    elif job.state is State.RUNNING:
        _progress(job.progress)
    elif job.state is State.FAILED:
        st.error(job.error)
    elif job.state is State.STOPPED:
        st.caption(":material/cancel: Cancelled")
    else:
        on_done(job)
    if not job.ended:
        st.button("Cancel", key=f"cancel_{job.id}", on_click=_cancel, args=(job.id,))


def _progress(progress: Any) -> None:
    """Draw a bar: of a capture's `Progress`, or of (done, total) runs."""
    if progress is None:
        st.progress(0.0, "Loading the model and cutting the text into tokens …")
    elif isinstance(progress, tuple):
        st.progress(progress[0] / progress[1], f"{progress[0]} of {progress[1]} runs")
    else:
        left = "" if progress.seconds_left is None else f" · {seconds(progress.seconds_left)} left"
        documents = f"{progress.documents:,} of {progress.total_documents:,} documents"
        rate = f"{progress.tokens_per_second:,.0f} tokens/s"
        st.progress(progress.tokens / progress.total_tokens, f"{documents} · {rate}{left}")


def _cancel(job_id: str) -> None:
    registry.registry().cancel(registry.session(), job_id)


def seconds(count: float) -> str:
    """Write a duration in words."""
    return "under a second" if count < 1 else f"{count:.0f} s" if count < 90 else f"{count / 60:.0f} min"


def size(count: int) -> str:
    """Write a number of bytes in words."""
    if count < 1e6:
        return f"{count / 1e3:,.0f} kB"
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
