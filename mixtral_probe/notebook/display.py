"""HTML of each kind of object, and how the notebook displays it."""

import uuid
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

from mixtral_probe.errors import InputError
from mixtral_probe.figures import CONFIG
from mixtral_probe.notebook import load, results, static, tabular
from mixtral_probe.notebook.markup import head, page, text
from mixtral_probe.stats import RoutingStats, routing_stats
from mixtral_probe.stats.cached_stats import STATS_FILE
from mixtral_probe.trace import Trace

COUNTED = 200_000
"""Up to this many tokens are counted to display a trace without cached statistics."""


def html(value: Any) -> str:
    """Return a trace, statistics or a result as HTML without a script, which stays when there is no kernel."""
    if isinstance(value, Trace):
        return _trace(value, _identity())
    if isinstance(value, RoutingStats):
        return page(head(repr(value)), load.summary(value) if value.sums.tokens.any() else "")
    return page(head(repr(value).splitlines()[0]), results.arrays(value))


def _identity() -> str:
    return f"mixtral-probe-{uuid.uuid4().hex[:12]}"


def _trace(trace: Trace, identity: str) -> str:
    parts = [head(repr(trace))]
    if len(trace):
        first = int(trace.tokens["document"].iloc[0])
        parts.append(f'<div class="static">{static.strip(trace, first, identity)}</div>')
        parts.append(_counts(trace))
    return page(*parts, identity=identity)


def _counts(trace: Trace) -> str:
    cached = trace.path is not None and (trace.path / STATS_FILE).is_file()
    if len(trace) > COUNTED and not cached:
        return (
            f'<p class="note">{text("RoutingStats.from_trace(trace) counts this many tokens; that takes a while.")}</p>'
        )
    stats = routing_stats(trace)
    return load.summary(stats) if stats.sums.tokens.any() else ""


def show_trace(trace: Trace) -> None:
    """Display a trace and, where widgets are installed, its text as a widget, which then hides the text of the HTML."""
    from IPython.display import display

    identity = _identity()
    display({"text/html": _trace(trace, identity), "text/plain": repr(trace)}, raw=True)
    if not len(trace):
        return
    try:
        from mixtral_probe.notebook.widget import TokenStrip
    except InputError:
        return
    display(TokenStrip(trace, twin=identity))


def table_bundle(table: pd.DataFrame) -> dict[str, str] | None:
    """Return one of the project's tables as HTML and text; None for any other frame, which pandas then displays."""
    spec = tabular.spec_of(table)
    return None if spec is None else tabular.bundle(table, spec)


def show_figure(figure: go.Figure) -> None:
    """Display a figure; one of the project's also as HTML, which stays when the notebook is exported."""
    meta = figure.layout.meta
    if not (isinstance(meta, dict) and "scales" in meta) or pio.renderers.default != "plotly_mimetype":
        figure._ipython_display_()
        return
    from IPython.display import HTML, display

    if (script := _plotlyjs_once()) is not None:
        display(HTML(script))
    still = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG)
    display(
        figure._repr_mimebundle_() | {"text/html": still, "text/plain": f"Figure: {figure.layout.title.text}"}, raw=True
    )


_loaded: set[str] = set()


def _plotlyjs_once() -> str | None:
    """Return the script that exported figures need the first time, then None: a notebook has it once."""
    if _loaded:
        return None
    _loaded.add("plotly.js")
    return f"<script>{get_plotlyjs()}</script>"
