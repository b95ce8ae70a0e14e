"""A few lines about a trace, for a terminal."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mixtral_probe.trace.meta import TraceMeta


def describe(
    documents: pd.DataFrame, tokens: int, meta: TraceMeta, recorded: Sequence[str], path: Path | None = None
) -> str:
    """Return sizes, model, labels, what was recorded, and the folder.

    Args:
        documents: the documents table.
        tokens: T.
        meta: of the trace.
        recorded: what the trace has besides the expert ids.
        path: the folder of the trace; None in memory.
    """
    lines = [
        f"Trace of {_count(len(documents), 'document')}, {_count(tokens, 'token')}: "
        f"{_count(meta.num_layers, 'layer')} × {_count(meta.num_experts, 'expert')}, "
        f"{meta.num_experts_per_tok} per token",
        f"  model     {_model(meta)}",
        f"  labels    {', '.join(_label(documents, str(name)) for name in documents.columns[2:]) or 'none'}",
        f"  recorded  {', '.join(['expert ids', *recorded])}",
    ]
    return "\n".join(lines if path is None else [*lines, f"  folder    {path}"])


def _model(meta: TraceMeta) -> str:
    facts = [meta.model.get("name", "not named"), meta.dtype, meta.device, meta.created]
    return ", ".join(str(fact) for fact in facts if fact)


def _label(documents: pd.DataFrame, name: str) -> str:
    return f"{name} ({_count(documents[name].nunique(), 'value')})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
