"""Statistics cached in the folder of a trace, so that a page about a million tokens reads sums, not rows."""

from mixtral_probe.errors import InputError
from mixtral_probe.stats.routing import RoutingStats
from mixtral_probe.trace import Trace

STATS_FILE = "stats.safetensors"
LABEL = "domain"


def routing_stats(trace: Trace, where: str | None = None) -> RoutingStats:
    """Return statistics of a trace, by domain where it has that label: the cached ones if they match, else new ones.

    Args:
        trace: the trace.
        where: an expression that says which tokens count; such statistics are never cached.

    Raises:
        InputError: a broken expression.
    """
    cached = _cached(trace) if where is None else None
    return RoutingStats.from_trace(trace, by=_label(trace), where=where) if cached is None else cached


def cache_stats(trace: Trace) -> None:
    """Compute the statistics of a trace on disk and save them in its folder."""
    if trace.path is not None:
        RoutingStats.from_trace(trace, by=_label(trace)).save(trace.path / STATS_FILE)


def _label(trace: Trace) -> str | None:
    return LABEL if LABEL in trace.labels else None


def _cached(trace: Trace) -> RoutingStats | None:
    """Return the saved statistics of this trace; None where they are absent, damaged, or of another trace."""
    if trace.path is None or not (trace.path / STATS_FILE).is_file():
        return None
    try:
        saved = RoutingStats.load(trace.path / STATS_FILE)
    except InputError:
        return None
    sizes = (saved.layers, saved.num_experts, saved.num_experts_per_tok, saved.by, saved.include_special)
    expected = (trace.layers, trace.num_experts, trace.num_experts_per_tok, _label(trace), False)
    counted = int((~trace.tokens["special"]).sum())
    return saved if sizes == expected and int(saved.sums.tokens.sum((1, 2)).max(initial=0)) == counted else None
