"""mixtral-probe: what the routers, experts and attention heads of Mixtral models do.

Letters used in every shape: B sequences in a batch, S positions in a forward call, T valid tokens in a trace, L layers,
E experts, K experts chosen per token, H attention heads, D head size, C hidden size, I expert intermediate size,
V vocabulary. Layers, experts, heads and positions count from 0 everywhere.
"""

import sys
from importlib import import_module
from typing import Any

_HOME = {
    "AttentionPlan": "trace",
    "Checkpoint": "checkpoint",
    "InputError": "errors",
    "Instrument": "model",
    "MixtralConfig": "config",
    "MixtralForCausalLM": "checkpoint",
    "MixtralForQuestionAnswering": "checkpoint",
    "MixtralForSequenceClassification": "checkpoint",
    "MixtralForTokenClassification": "checkpoint",
    "MixtralModel": "checkpoint",
    "Probe": "probe",
    "Result": "trace",
    "RoutingStats": "stats",
    "Selection": "selection",
    "Tokenizer": "tokenizer",
    "Trace": "trace",
    "read_corpus": "corpus",
    "training_traces": "trace",
    "select": "selection",
    "write_chrome_trace": "trace",
    "write_report": "report",
}

_ROOMS = {room: room for room in ("figures", "metrics", "notebook", "tables")} | {"edits": "instruments.edits"}

__all__ = [*_HOME, *_ROOMS]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: opening a saved trace must not load torch."""
    if name in _ROOMS:
        return import_module(f"mixtral_probe.{_ROOMS[name]}")
    if name not in _HOME:
        raise AttributeError(f"module 'mixtral_probe' has no attribute {name!r}")
    return getattr(import_module(f"mixtral_probe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if "IPython" in sys.modules:
    import_module("mixtral_probe.notebook_repr").register()
