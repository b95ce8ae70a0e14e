"""Ablations of the embedded model's experts, layer by layer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.jobs import expert_measurements, models, registry
from mixtral_probe import Result, Trace, tables

if TYPE_CHECKING:
    from mixtral_probe.run.estimate import ResourceEstimate

KIND = "ablation"
PLACEBOS = 7
"""Draws of the placebo of each expert."""


@dataclass(frozen=True)
class Ablation:
    """The table of one ablation, and what it is of."""

    layer: int
    table: pd.DataFrame
    fingerprint: str
    """Of the ablated model."""

    def fits(self, trace: Trace) -> bool:
        """Whether a trace was recorded with the ablated model."""
        return trace.meta.model.get("fingerprint") == self.fingerprint


@st.cache_data(max_entries=64, show_spinner=False)
def estimate(layer: int) -> "ResourceEstimate | None":
    """Estimate the tokens and seconds of the ablation of a layer; None where the embedded model has no such layer."""
    if layer >= models.embedded().model.config.num_hidden_layers:
        return None
    texts = expert_measurements.documents()
    return models.embedded().estimate_ablation(texts, layers=[layer], placebos=PLACEBOS)


def start(layer: int) -> str:
    """Put the ablation of the experts of a layer in the queue and return its job's id.

    Raises:
        InputError: the queue is full.
    """

    def work(path: Path, report: Callable[[Any], None], should_stop: Callable[[], bool]) -> None:
        texts = expert_measurements.documents()
        with models.use_in_job(models.EMBEDDED) as probe:
            how: dict[str, Any] = {"on_progress": report, "should_stop": should_stop}
            result = probe.ablation(texts, layers=[layer], placebos=PLACEBOS, **how)
        result.save(path)

    return registry.submit("Ablation", f"layer {layer}, one text of each domain", work, KIND)


def finished() -> list[Ablation]:
    """Read this session's ablations, newest first."""
    return [_read(str(job.result)) for job in registry.results(KIND)]


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str) -> Ablation:
    result = Result.load(path)
    return Ablation(result.axis("layer")[0], tables.ablation(result), result.meta["model"]["fingerprint"])
