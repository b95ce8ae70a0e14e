"""What a table is given: each says in one sentence what it is made from, and makes statistics of a trace by itself."""

from collections.abc import Callable, Sized
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.stats import RoutingStats, routing_stats
from mixtral_probe.trace import Result, Trace

P = ParamSpec("P")
R = TypeVar("R", bound=Result)
T = TypeVar("T")

_STATS: WeakKeyDictionary[Trace, RoutingStats] = WeakKeyDictionary()


def of_stats(
    function: Callable[Concatenate[RoutingStats, P], pd.DataFrame],
) -> Callable[Concatenate[RoutingStats | Trace, P], pd.DataFrame]:
    """Let a table of statistics take a trace too, whose statistics are made once; refuse anything else."""

    @wraps(function)
    def table(given: RoutingStats | Trace, /, *args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        if isinstance(given, Trace):
            given = _stats_of(given)
        elif not isinstance(given, RoutingStats):
            raise InputError(_needs(function, "a trace, or its statistics for groups of documents", given))
        return function(given, *args, **kwargs)

    return table


def of_trace(function: Callable[Concatenate[Trace, P], pd.DataFrame]) -> Callable[Concatenate[Trace, P], pd.DataFrame]:
    """Refuse anything but a trace."""
    return _only(Trace, "a trace", function)


def of_result(function: Callable[Concatenate[R, P], pd.DataFrame]) -> Callable[Concatenate[R, P], pd.DataFrame]:
    """Refuse anything but the result of an experiment."""
    return _only(Result, "the result of an experiment", function)


def _only(
    kind: type, what: str, function: Callable[Concatenate[T, P], pd.DataFrame]
) -> Callable[Concatenate[T, P], pd.DataFrame]:
    @wraps(function)
    def table(given: T, /, *args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        if not isinstance(given, kind):
            raise InputError(_needs(function, what, given))
        return function(given, *args, **kwargs)

    return table


def _stats_of(trace: Trace) -> RoutingStats:
    if trace not in _STATS:
        _STATS[trace] = routing_stats(trace)
    return _STATS[trace]


def _needs(function: Callable[..., Any], what: str, given: Any) -> str:
    name = getattr(function, "__name__", "a table")
    if isinstance(given, RoutingStats):
        return f"{name} is made from {what}, got statistics; give the trace they are of"
    if isinstance(given, str | bytes) or hasattr(given, "__fspath__"):
        return f"{name} is made from {what}, got {given!r}; open it first, with Trace.load or Result.load"
    if isinstance(given, list | tuple) and given and all(isinstance(part, Trace | RoutingStats) for part in given):
        return f"{name} is made from {what}, got {len(given)} of them; call it for each, or merge their statistics"
    size = f" of {len(given)}" if isinstance(given, Sized) else ""
    return f"{name} is made from {what}, got a {type(given).__name__}{size}; see mixtral_probe.Probe.trace"
