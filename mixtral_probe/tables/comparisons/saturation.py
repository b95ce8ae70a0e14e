"""How early in training a model chooses its last experts: `saturation`."""

from collections.abc import Mapping

import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.stats import pair
from mixtral_probe.tables.comparisons.paired_rows import common_rows, pair_scope
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.phrases import SHARE, UNIFORM
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace


def saturation(traces: Mapping[int, Trace], *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """Return how far each step of training already chose the experts of the last one, on the same texts.

    Columns: step, layer, group, metric, value, corrected, low, high, null, n, scope. Rows without a layer are about all
    layers.

    Args:
        traces: the trace of each step, of the same texts; `training_traces` reads a folder of them.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: fewer than two traces, or traces of different texts or shapes; or the label is unknown.
    """
    if len(traces) < 2:
        raise InputError(f"saturation needs the traces of at least two steps, got {len(traces)}")
    last, parts = max(traces), []
    for step, trace in sorted(traces.items()):
        paired = pair(trace, traces[last], by, include_special=include_special)
        scope = f"against step {last}; {pair_scope(trace, traces[last], include_special)}"
        parts += [part.assign(step=step) for part in common_rows(paired, _METRIC_OF, scope)]
    return tidy(parts, SPEC)


_METRIC_OF = {"set_overlap": "saturation", "first_agreement": "saturation_first"}
SPEC = TableSpec(
    function=saturation,
    source="traces",
    description="How far each step of training already chose the experts of the last one.",
    keys=("step", "layer", "group"),
    metrics={
        "saturation": Metric(
            "mean share of a token's experts that are those of the last step; K/E by chance (OLMoE, eq. 5)",
            "experts of the last step",
            ".1%",
            SHARE,
            UNIFORM,
        ),
        "saturation_first": Metric(
            "share of tokens whose first choice is that of the last step; 1/E by chance",
            "first choice of the last step",
            ".1%",
            SHARE,
            UNIFORM,
        ),
    },
    figures=(),
    narrows=True,
)
