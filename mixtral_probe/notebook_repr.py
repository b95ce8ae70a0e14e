"""How results are displayed in a notebook.

The code that draws them is on a higher floor, `notebook/`, and is imported by name when a notebook displays a result:
the one call that goes upward, so that a result costs nothing until then.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

_ROOM = "mixtral_probe.notebook"


class NotebookRepr:
    """Base class of results: rich HTML in a notebook, `repr` in a terminal."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return import_module(_ROOM).html(self)


def register() -> None:
    """Register the displays of traces, tables and figures with the kernel of a running notebook; imports none."""
    shell = sys.modules["IPython"].get_ipython()
    if not hasattr(shell, "kernel"):
        return
    formatter = shell.display_formatter
    formatter.ipython_display_formatter.for_type_by_name("mixtral_probe.trace.trace", "Trace", _display("show_trace"))
    formatter.ipython_display_formatter.for_type_by_name("plotly.graph_objs._figure", "Figure", _display("show_figure"))
    formatter.mimebundle_formatter.for_type_by_name("pandas", "DataFrame", _display("table_bundle"))


def _display(name: str) -> Callable[[Any], Any]:
    return lambda value: getattr(import_module(_ROOM), name)(value)
