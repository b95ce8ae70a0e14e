"""mixtral-probe: what the routers, experts and attention heads of Mixtral models do.

Letters used in every shape: B sequences in a batch, S positions in a forward call, T valid tokens in a trace, L layers,
E experts, K experts chosen per token, H attention heads, D head size, C hidden size, I expert intermediate size,
V vocabulary. Layers, experts, heads and positions count from 0 everywhere.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names once more, for editors and type checkers, which do not run this file
    from mixtral_probe import figures as figures
    from mixtral_probe import metrics as metrics
    from mixtral_probe import notebook as notebook
    from mixtral_probe import tables as tables
    from mixtral_probe.checkpoint import Checkpoint as Checkpoint
    from mixtral_probe.checkpoint import MixtralForCausalLM as MixtralForCausalLM
    from mixtral_probe.checkpoint import MixtralForQuestionAnswering as MixtralForQuestionAnswering
    from mixtral_probe.checkpoint import MixtralForSequenceClassification as MixtralForSequenceClassification
    from mixtral_probe.checkpoint import MixtralForTokenClassification as MixtralForTokenClassification
    from mixtral_probe.checkpoint import MixtralModel as MixtralModel
    from mixtral_probe.config import MixtralConfig as MixtralConfig
    from mixtral_probe.corpus import read_corpus as read_corpus
    from mixtral_probe.errors import InputError as InputError
    from mixtral_probe.instruments import edits as edits
    from mixtral_probe.model import Instrument as Instrument
    from mixtral_probe.probe import Probe as Probe
    from mixtral_probe.report import write_report as write_report
    from mixtral_probe.selection import Selection as Selection
    from mixtral_probe.selection import select as select
    from mixtral_probe.stats import RoutingStats as RoutingStats
    from mixtral_probe.tokenizer import Tokenizer as Tokenizer
    from mixtral_probe.trace import AttentionPlan as AttentionPlan
    from mixtral_probe.trace import Result as Result
    from mixtral_probe.trace import Trace as Trace
    from mixtral_probe.trace import training_traces as training_traces
    from mixtral_probe.trace import write_chrome_trace as write_chrome_trace

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


if not TYPE_CHECKING:  # a checker that saw it would accept any name

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
