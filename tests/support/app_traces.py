"""Traces and runs for the tests of the dashboard."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from mixtral_probe import Trace

APP = Path(__file__).parents[2] / "app"
ENTRY = APP / "streamlit_app.py"
HOSTILE = ["<script>window.hacked=1</script>", "\n", " the", "\u202eabc", "👩‍💻", "x" * 10_000, "**bold**", "שלום"]
"""Tokens that must show as themselves and do nothing."""


def routed_trace(seed: int = 0, *, layers: int = 3, experts: int = 4, documents: int = 4, length: int = 60) -> Trace:
    """A random trace of documents in two domains, consistent in itself: the experts are the largest logits."""
    generator = np.random.default_rng(seed)
    tokens = documents * length
    logits = generator.normal(size=(layers, tokens, experts)).astype(np.float32)
    ids = np.argsort(-logits, axis=-1)[..., :2]
    top = np.take_along_axis(logits, ids, -1).astype(np.float64)
    weights = np.exp(top) / np.exp(top).sum(-1, keepdims=True)
    pieces = [HOSTILE[i % 10] if i % 10 < len(HOSTILE) else f" w{i}" for i in range(tokens)]
    return Trace.from_arrays(
        expert_ids=ids,
        expert_weights=weights,
        router_logits=logits,
        token_ids=np.arange(tokens),
        document=np.repeat(np.arange(documents), length),
        num_experts=experts,
        documents=[{"id": f"text-{i}", "domain": ("code", "prose")[i % 2]} for i in range(documents)],
        piece=pieces,
    )


def bare_trace() -> Trace:
    """A trace of expert ids and nothing else: one layer, no logits, weights, texts or domains."""
    ids = np.random.default_rng(1).permuted(np.tile(np.arange(4), (1, 50, 1)), axis=-1)[..., :2]
    return Trace.from_arrays(expert_ids=ids, num_experts=4)


def opened(
    monkeypatch: pytest.MonkeyPatch, *traces: Path, page: str = "", query: dict[str, str] | None = None
) -> AppTest:
    """A page of the dashboard, run once, as `streamlit run app/streamlit_app.py -- TRACES` shows it to who opens it."""
    monkeypatch.setattr(sys, "argv", [str(ENTRY), *map(str, traces)])
    test = AppTest.from_file(ENTRY, default_timeout=120)
    for name, value in (query or {}).items():
        test.query_params[name] = value
    if page:
        test.switch_page(f"app_pages/{page}.py")
    return test.run()


def clean(test: AppTest) -> AppTest:
    """The same, after checking that nothing went wrong in it."""
    assert not test.exception, [error.message for error in test.exception]
    assert not test.error, [error.value for error in test.error]
    return test


def texts(test: AppTest) -> str:
    """Every caption, text and HTML on the page."""
    parts: list[Any] = [*test.caption, *test.markdown, *test.get("html")]
    return "\n".join(str(getattr(part, "value", None) or getattr(part.proto, "body", "")) for part in parts)


def row(table: pd.DataFrame, metric: str, **keys: object) -> pd.Series:
    """The first row of a metric with these values."""
    for name, value in {**keys, "metric": metric}.items():
        table = table[(table[name] == value).fillna(False).to_numpy(dtype=bool)]
    return table.iloc[0]


def card_values(test: AppTest) -> dict[str, str]:
    """The large numbers on the page by their names."""
    return {metric.label: metric.value for metric in test.metric}
