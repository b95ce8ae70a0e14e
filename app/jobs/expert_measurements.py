"""Measurements of the embedded model's experts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.jobs import models, registry
from mixtral_probe import Result, Trace, read_corpus, tables

KIND = "experts"
_SALIENCY, _SIMILARITY = "saliency", "similarity"


@dataclass(frozen=True)
class Measurement:
    """The tables of one measurement, under the names they have in `tables`."""

    saliency: pd.DataFrame
    promoted: pd.DataFrame
    contexts: pd.DataFrame
    similarity: pd.DataFrame
    fingerprint: str
    """Of the measured model."""

    def fits(self, trace: Trace) -> bool:
        """Whether a trace was recorded with the measured model."""
        return trace.meta.model.get("fingerprint") == self.fingerprint


def documents() -> list[Any]:
    """Return the first bundled document of each domain."""
    first: dict[str, Any] = {}
    for document in read_corpus("bundled"):
        first.setdefault(str(document.labels.get("domain", "")), document)
    return list(first.values())


@st.cache_data(max_entries=1, show_spinner=False)
def estimate() -> float:
    """Estimate the seconds of the measurement."""
    probe, texts = models.embedded(), documents()
    return probe.estimate_saliency(texts).seconds + probe.estimate_similarity(texts).seconds


def measure() -> str:
    """Put saliency and similarity of the embedded model's experts in the queue and return the job's id.

    Raises:
        InputError: the queue is full.
    """

    def work(path: Path, report: Callable[[Any], None], should_stop: Callable[[], bool]) -> None:
        texts = documents()
        with models.use_in_job(models.EMBEDDED) as probe:
            saliency = probe.saliency(texts, on_progress=report, should_stop=should_stop)
            similarity = probe.similarity(texts, on_progress=report, should_stop=should_stop)
        saliency.save(path / _SALIENCY)
        similarity.save(path / _SIMILARITY)

    return registry.submit("Experts", "saliency and similarity, one text of each domain", work, KIND)


def measurements() -> list[Measurement]:
    """Read this session's measurements, newest first."""
    return [_read(str(job.result)) for job in registry.results(KIND)]


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(path: str) -> Measurement:
    saliency = Result.load(Path(path) / _SALIENCY)
    similarity = Result.load(Path(path) / _SIMILARITY)
    return Measurement(
        tables.saliency(saliency),
        tables.promoted_tokens(saliency),
        tables.expert_contexts(saliency),
        tables.expert_similarity(similarity),
        saliency.meta["model"]["fingerprint"],
    )
