"""What the tests of figures and the report share: hostile texts, and JSON read back as a browser would."""

import base64
import json

import numpy as np

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import TABLES
from tests.support.routing import random_trace


def tables_of(trace, by="domain"):
    stats = RoutingStats.from_trace(trace, by=by)
    return {name: spec.function(trace if spec.source == "trace" else stats) for name, spec in TABLES.items()}


def hostile_trace():
    """Every text a person can put in is markup."""
    pieces = ["<script>alert(1)</script>", "=1+1", "\ud800", "&amp;", "\n", " a"]
    tokens = 60
    return random_trace(
        3, tokens=tokens, weights=True, piece=[pieces[i % len(pieces)] for i in range(tokens)],
        meta={"model": {"name": "</script><img src=x onerror=alert(2)>"}},
    )  # fmt: skip


def drawn(rows):
    """[rows] the numbers that stand for rows in figures and sentences: those that the intervals are about, if any."""
    return np.where(rows["low"].isna(), rows["value"], rows["corrected"]).astype(float)


def decoded(value):
    """A JSON value of plotly with its base64 arrays as numpy."""
    if isinstance(value, dict) and "bdata" in value:
        kind = {"f4": "<f4", "f8": "<f8", "i1": "i1", "i2": "<i2", "i4": "<i4", "i8": "<i8", "u1": "u1"}[value["dtype"]]
        array = np.frombuffer(base64.b64decode(value["bdata"]), kind)
        shape = value.get("shape")
        return array.reshape([int(size) for size in shape.split(",")]) if shape else array
    if isinstance(value, dict):
        return {key: decoded(item) for key, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value


def as_json(figure):
    return decoded(json.loads(figure.to_json(engine="json")))
