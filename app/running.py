"""Starting a capture and watching it."""

import captures
import controls
import settings
import sources
import streamlit as st
from jobs import Job, State

from mixtral_probe import InputError


def offer(request: captures.Request) -> None:
    """What the capture will take, and the button that starts it."""
    count = len(request.documents)
    size = sum(len(document.text) for document in request.documents)
    st.caption(f"{count:,} document{'s' * (count > 1)} · {size:,} characters")
    ask, go, _ = st.columns([1, 1, 2])
    asked = ask.button("Estimate", key="run_estimate", icon=":material/calculate:", width="stretch")
    started = go.button("Capture", key="run_start", type="primary", icon=":material/play_arrow:", width="stretch")
    if not asked and not started:
        return
    try:
        with st.spinner("Estimating; the first time the model is loaded …"):
            found = captures.estimate(request)
        st.info(
            f"{found.tokens:,} tokens · {_seconds(found.seconds)} · "
            f"{_size(found.memory_bytes)} of memory · {_size(found.disk_bytes)} of disk"
        )
        if started:
            captures.start(request)
    except InputError as error:
        st.error(str(error))


def jobs() -> None:
    """This session's captures; looked at again and again while one is under way."""
    st.subheader("Your captures", anchor=False)
    active = any(not job.over for job in captures.registry().of(captures.session()))
    st.fragment(_jobs, run_every=settings.POLL_SECONDS if active else None)()


def _jobs() -> None:
    held = captures.registry().of(captures.session())
    new = [job for job in held if job.state is State.DONE and job.id not in st.session_state.get("captures", {})]
    for job in new:
        assert job.result is not None
        sources.add_capture(job.id, job.name, job.result, job.about)
    if not held:
        st.caption("None yet. Choose what to run, then press Capture.")
    for job in reversed(held):
        with st.container(border=True):
            _job(job)
    under_way = any(not job.over for job in held)
    before, st.session_state["captures_under_way"] = st.session_state.get("captures_under_way"), under_way
    if new or (before and not under_way):
        st.rerun()


def _job(job: Job) -> None:
    st.markdown(f"**{job.name}**")
    st.text(job.about)
    if job.state is State.WAITING:
        st.caption(f":material/hourglass_empty: In line, {captures.registry().place(job.id)} before it")
    elif job.state is State.RUNNING:
        _progress(job)
    elif job.state is State.FAILED:
        st.error(job.error)
    elif job.state is State.STOPPED:
        st.caption(":material/cancel: Cancelled")
    else:
        st.caption(":material/check_circle: Finished; it is in the list of traces now")
        if st.button("See it in Token routing", key=f"see_{job.id}", icon=":material/alt_route:"):
            controls.wish(trace=job.id)
            st.switch_page("app_pages/token_routing.py")
    if not job.over:
        st.button("Cancel", key=f"cancel_{job.id}", on_click=_cancel, args=(job.id,))


def _progress(job: Job) -> None:
    told = job.progress
    if told is None:
        st.progress(0.0, "Loading the model and cutting the text into tokens …")
        return
    left = "" if told.seconds_left is None else f" · {_seconds(told.seconds_left)} left"
    st.progress(
        told.tokens / told.total_tokens,
        f"{told.documents:,} of {told.total_documents:,} documents · {told.tokens_per_second:,.0f} tokens/s{left}",
    )


def _cancel(job_id: str) -> None:
    captures.registry().cancel(captures.session(), job_id)


def _seconds(seconds: float) -> str:
    return "under a second" if seconds < 1 else f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _size(size: int) -> str:
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
