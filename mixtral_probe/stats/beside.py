"""The statistics that lie beside a trace, so that pages over a million tokens read sums, not rows."""

from mixtral_probe.errors import InputError
from mixtral_probe.stats.routing import RoutingStats
from mixtral_probe.trace import Trace

STATS_FILE = "stats.safetensors"
LABEL = "domain"


def routing_stats(trace: Trace, where: str | None = None) -> RoutingStats:
    """A trace's statistics, by domain where its documents say one: those beside it if they fit, else made now.

    Args:
        trace: the trace.
        where: count only what an expression means; such statistics are always made now.

    Raises:
        InputError: a broken expression.
    """
    saved = _beside(trace) if where is None else None
    return RoutingStats.from_trace(trace, by=_label(trace), where=where) if saved is None else saved


def save_beside(trace: Trace) -> None:
    """Compute the statistics of a trace on disk and keep them beside it."""
    if trace.path is not None:
        RoutingStats.from_trace(trace, by=_label(trace)).save(trace.path / STATS_FILE)


def _label(trace: Trace) -> str | None:
    return LABEL if LABEL in trace.labels else None


def _beside(trace: Trace) -> RoutingStats | None:
    """Saved statistics of this very trace; None where there are none, or damaged or other ones."""
    if trace.path is None or not (trace.path / STATS_FILE).is_file():
        return None
    try:
        saved = RoutingStats.load(trace.path / STATS_FILE)
    except InputError:
        return None
    sizes = (len(saved.layers), saved.num_experts, saved.num_experts_per_tok, saved.by, saved.include_special)
    wanted = (trace.num_layers, trace.num_experts, trace.num_experts_per_tok, _label(trace), False)
    counted = int((~trace.tokens["special"]).sum())
    return saved if sizes == wanted and int(saved.sums.tokens.sum((1, 2)).max(initial=0)) == counted else None
