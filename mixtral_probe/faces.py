"""How results meet a notebook: their faces are made higher up, where figures are known, and only looked up here.

The one call that goes upward, and by name, so that a result costs nothing until a notebook shows it.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

_FACES = "mixtral_probe.notebook"


class Shown:
    """Has a rich face in a notebook, and its `repr` in a terminal."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return import_module(_FACES).html(self)


def register() -> None:
    """Tell the kernel of a running notebook how traces, tables and figures show; imports none of them."""
    shell = sys.modules["IPython"].get_ipython()
    if not hasattr(shell, "kernel"):
        return
    formatter = shell.display_formatter
    formatter.ipython_display_formatter.for_type_by_name("mixtral_probe.trace.trace", "Trace", _call("show_trace"))
    formatter.ipython_display_formatter.for_type_by_name("plotly.graph_objs._figure", "Figure", _call("show_figure"))
    formatter.mimebundle_formatter.for_type_by_name("pandas", "DataFrame", _call("table_bundle"))


def _call(name: str) -> Callable[[Any], Any]:
    return lambda shown: getattr(import_module(_FACES), name)(shown)
