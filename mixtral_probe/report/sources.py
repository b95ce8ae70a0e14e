"""The traces of a report, each with its name and the statistics its tables come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.selection import select
from mixtral_probe.stats import RoutingStats, routing_stats
from mixtral_probe.tables import TableSpec
from mixtral_probe.trace import Trace


@dataclass(frozen=True)
class ReportTrace:
    """A trace under the name it has in the report."""

    name: str
    trace: Trace
    where: str | None = None
    """The expression that says what the tables are about; None for all."""

    @cached_property
    def stats(self) -> RoutingStats:
        """Its statistics, by domain where documents have that label."""
        return routing_stats(self.trace, self.where)

    @cached_property
    def selected(self) -> Trace:
        """The trace narrowed to the selection."""
        return self.trace if self.where is None else select(self.trace, self.where)

    def table(self, spec: TableSpec) -> pd.DataFrame:
        """Return a table of this trace."""
        return spec.function(self.selected if spec.source == "trace" else self.stats)

    def rows_at_most(self, spec: TableSpec) -> int:
        """Return how many rows a per-token table can have."""
        meta = self.trace.meta
        return len(self.trace) * meta.num_layers * (meta.num_experts_per_tok if "rank" in spec.keys else 1)

    def provenance(self) -> dict[str, Any]:
        """Return where the trace comes from: sizes and what its meta says."""
        trace, meta = self.trace, self.trace.meta
        sizes = {"tokens": len(trace), "documents": trace.num_documents, "layers": trace.num_layers}
        sizes |= {"experts": trace.num_experts, "experts_per_token": trace.num_experts_per_tok}
        return sizes | meta.model_dump(
            mode="json",
            include={"model", "tokenizer", "corpus", "dtype", "device", "software", "instruments", "created"},
        )


def sources_of(traces: Sequence[Trace | str | PathLike[str]], where: str | None = None) -> list[ReportTrace]:
    """Open the traces that are paths, and name each differently.

    Args:
        traces: the traces, or their folders.
        where: what the tables are about.

    Raises:
        InputError: there is none, or something that is no trace.
    """
    if isinstance(traces, (Trace, str, PathLike)):
        traces = [traces]
    if not traces:
        raise InputError("a report needs at least one trace, got none")
    opened = [trace if isinstance(trace, Trace) else Trace.load(trace) for trace in traces]
    names: list[str] = []
    for number, trace in enumerate(opened):
        name = base = _name(trace.path, number)
        again = 2
        while name in names:
            name, again = f"{base} ({again})", again + 1
        names.append(name)
    return [ReportTrace(name, trace, where) for name, trace in zip(names, opened, strict=True)]


def _name(path: Path | None, number: int) -> str:
    return f"trace {number}" if path is None else path.absolute().name.removesuffix(".trace")
