"""Traces, statistics, results, tables and figures in a notebook, which displays what ends a cell.

`TokenStrip` is the coloured text of a trace as a widget with a layer slider.
"""

from typing import TYPE_CHECKING, Any

from mixtral_probe.notebook.display import html, show_figure, show_trace, table_bundle

if TYPE_CHECKING:
    from mixtral_probe.notebook.widget import TokenStrip

__all__ = ["TokenStrip", "html", "show_figure", "show_trace", "table_bundle"]


def __getattr__(name: str) -> Any:
    """Load the widget on demand: its library is an extra."""
    if name != "TokenStrip":
        raise AttributeError(f"module 'mixtral_probe.notebook' has no attribute {name!r}")
    from mixtral_probe.notebook.widget import TokenStrip

    return TokenStrip
