"""What a figure is given: a table, and no trace."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError

P = ParamSpec("P")


def of_table(
    function: Callable[Concatenate[pd.DataFrame, P], go.Figure],
) -> Callable[Concatenate[pd.DataFrame, P], go.Figure]:
    """Refuse anything but a table."""

    @wraps(function)
    def figure(table: pd.DataFrame, /, *args: P.args, **kwargs: P.kwargs) -> go.Figure:
        if not isinstance(table, pd.DataFrame):
            name, given = getattr(function, "__name__", "a figure"), type(table).__name__
            raise InputError(f"figures.{name} draws a table, got a {given}; give one of mixtral_probe.tables")
        return function(table, *args, **kwargs)

    return figure
