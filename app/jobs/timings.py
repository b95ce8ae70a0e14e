"""Timings of the forward pass."""

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


@st.cache_data(max_entries=64, show_spinner=False)
def estimate(text: str, repeats: int) -> float:
    """Estimate the seconds of a timing.

    Raises:
        InputError: the text breaks a rule.
    """
    return models.embedded().estimate_time([{"id": "typed text", "text": text}], repeats=repeats).seconds


def start(text: str, repeats: int) -> str:
    """Put a timing of the embedded model in the queue and return its job's id.

    Raises:
        InputError: the queue is full.
    """
    document = [{"id": "typed text", "text": text}]

    def work(path: Path, report: Callable[[Any], None], should_stop: Callable[[], bool]) -> None:
        with models.use_in_job(models.EMBEDDED) as probe:
            result = probe.time(
                document, repeats=repeats, on_run=lambda done, total: report((done, total)), should_stop=should_stop
            )
        result.save(path)

    return registry.submit("Timing", f"{repeats} runs of {registry.quote(text)}", work, KIND)


def results() -> dict[str, Job]:
    """Return this session's timings by job id, newest first."""
    return {job.id: job for job in registry.results(KIND)}


def table(job: Job) -> pd.DataFrame:
    """Compute `tables.timing` of a finished job."""
    return _read(str(job.result))[1]


def chrome(job: Job) -> bytes:
    """Write the last timed run as a Chrome trace."""
    return json.dumps(chrome_trace(_read(str(job.result))[0])).encode()


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str) -> tuple[Result, pd.DataFrame]:
    result = Result.load(path)
    return result, tables.timing(result)
