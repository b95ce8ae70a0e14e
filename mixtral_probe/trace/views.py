"""A part of a trace, and a few lines about one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mixtral_probe.trace.frames import document_frame

if TYPE_CHECKING:
    from mixtral_probe.trace.trace import Trace


def select(trace: "Trace", documents: list[int], rows: list[slice]) -> "Trace":
    """The documents' rows in the order given, in memory, documents renumbered from 0."""
    index = np.concatenate([np.arange(part.start, part.stop) for part in rows] or [np.arange(0)]).astype(np.int64)
    lengths = [part.stop - part.start for part in rows]
    tokens = trace.tokens.iloc[index].reset_index(drop=True)
    tokens["document"] = np.repeat(np.arange(len(documents), dtype=np.int32), lengths)
    kept = trace.documents.iloc[documents].drop(columns="document").to_dict("records")
    take: Callable[[np.ndarray | None], np.ndarray | None] = lambda array: None if array is None else array[:, index]  # noqa: E731
    return type(trace)(
        documents=document_frame(kept),
        tokens=tokens,
        expert_ids=trace.expert_ids[:, index],
        meta=trace.meta,
        expert_weights=take(trace.expert_weights),
        router_logits=take(trace.router_logits),
        attention_record=trace.attention_record and trace.attention_record.select(documents),
    )


def describe(trace: "Trace") -> str:
    """What a terminal shows: sizes, model, labels, what was recorded, where it lies."""
    meta = trace.meta
    lines = [
        f"Trace of {_count(len(trace.documents), 'document')}, {_count(len(trace), 'token')}: "
        f"{_count(meta.num_layers, 'layer')} × {_count(meta.num_experts, 'expert')}, "
        f"{meta.num_experts_per_tok} per token",
        f"  model     {_model(trace)}",
        f"  labels    {', '.join(_label(trace, name) for name in trace.labels) or 'none'}",
        f"  recorded  {_recorded(trace)}",
    ]
    if trace.path is not None:
        lines.append(f"  folder    {trace.path}")
    return "\n".join(lines)


def _model(trace: "Trace") -> str:
    facts = [trace.meta.model.get("name", "not named"), trace.meta.dtype, trace.meta.device, trace.meta.created]
    return ", ".join(str(fact) for fact in facts if fact)


def _label(trace: "Trace", name: str) -> str:
    return f"{name} ({_count(trace.documents[name].nunique(), 'value')})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _recorded(trace: "Trace") -> str:
    kinds = {"expert weights": trace.expert_weights, "router logits": trace.router_logits}
    names = ["expert ids", *(name for name, array in kinds.items() if array is not None)]
    if trace.tokens["nll"].notna().any():
        names.append("losses")
    if trace.attention_layers:
        names.append(f"attention of layers {', '.join(map(str, trace.attention_layers))}")
    return ", ".join(names)
