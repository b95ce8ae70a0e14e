"""The spans of a timing in the form that chrome://tracing, Perfetto and Speedscope open (Trace Event Format)."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from mixtral_probe.files import write_bytes
from mixtral_probe.trace.results import Result, TimingResult


def chrome_trace(result: Result) -> dict[str, Any]:
    """Return the last timed run as complete events, one per span, in microseconds: each lies inside its parent's.

    Raises:
        InputError: the result is no timing.
    """
    timing = TimingResult.require(result, "a Chrome trace")
    begin = (timing.span_start * 1e9).round().astype("int64")
    end = ((timing.span_start + timing.span_seconds) * 1e9).round().astype("int64")
    columns = [values.tolist() for values in (begin, end, timing.span_layer, timing.span_expert)]
    model = timing.model.get("name") or "model"
    events = [_metadata("process_name", model), _metadata("thread_name", "forward pass")]
    events += [_event(*row) for row in zip(result.axis("span"), *columns, strict=True)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(result.meta["timing"])}


def write_chrome_trace(result: Result, path: str | PathLike[str]) -> Path:
    """Write ``chrome_trace`` as a JSON file, whole or not at all; returns the path."""
    return write_bytes(path, json.dumps(chrome_trace(result)).encode())


def _metadata(kind: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": 0, "tid": 0, "name": kind, "args": {"name": name}}


def _event(site: str, begin: int, end: int, layer: int, expert: int) -> dict[str, Any]:
    name = f"expert {expert}" if expert >= 0 else f"layer {layer}" if site == "residual" else site
    args = {"site": site} | ({"layer": layer} if layer >= 0 else {}) | ({"expert": expert} if expert >= 0 else {})
    times = {"ts": begin / 1e3, "dur": (end - begin) / 1e3}
    return {"ph": "X", "pid": 0, "tid": 0, "name": name, "cat": site, **times, "args": args}
