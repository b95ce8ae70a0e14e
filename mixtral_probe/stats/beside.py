"""The statistics that lie beside a trace, so that pages over a million tokens read sums, not rows."""

from mixtral_probe.errors import InputError
from mixtral_probe.stats.routing import RoutingStats
from mixtral_probe.trace import Trace

STATS_FILE = "stats.safetensors"


def routing_stats(trace: Trace) -> RoutingStats:
    """A trace's statistics, by domain where its documents say one: read from beside it, or else computed."""
    by = "domain" if "domain" in trace.documents else None
    if trace.path is not None and (trace.path / STATS_FILE).is_file():
        try:
            return RoutingStats.load(trace.path / STATS_FILE)
        except InputError:  # damaged or of another version: the trace itself says everything
            pass
    return RoutingStats.from_trace(trace, by=by)


def save_beside(trace: Trace) -> None:
    """Compute the statistics of a trace on disk and keep them beside it."""
    if trace.path is not None:
        (trace.path / STATS_FILE).unlink(missing_ok=True)
        routing_stats(trace).save(trace.path / STATS_FILE)
