"""Timing the forward pass from the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.jobs import models, registry
from app.jobs.queue import Job
from mixtral_probe import Result, tables
from mixtral_probe.trace import chrome_trace

KIND = "timing"


def start(text: str, repeats: int) -> str:
    """Put a timing of the embedded model in line; returns its job's id.

    Raises:
        InputError: the line is full.
    """
    document = [{"id": "typed text", "text": text}]

    def work(path: Path, tell: Callable[[Any], None], stop: Callable[[], bool]) -> None:
        with models.use_in_job(models.EMBEDDED) as probe:
            result = probe.time(
                document, repeats=repeats, on_run=lambda done, total: tell((done, total)), should_stop=stop
            )
        result.save(path)

    return registry.submit("Timing", f"{repeats} runs of {registry.quote(text)}", work, KIND)


def results() -> dict[str, Job]:
    """This session's results by job id, newest first."""
    return {job.id: job for job in registry.results(KIND)}


def table(job: Job) -> pd.DataFrame:
    """`tables.timing` of a finished job."""
    return _read(str(job.result))[1]


def chrome(job: Job) -> bytes:
    """The last timed run as a Chrome trace."""
    return json.dumps(chrome_trace(_read(str(job.result))[0])).encode()


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str) -> tuple[Result, pd.DataFrame]:
    result = Result.load(path)
    return result, tables.timing(result)
