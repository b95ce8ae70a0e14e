"""A chart with its table and its CSV."""

import html
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.state import settings
from app.widgets import choices
from mixtral_probe import figures, strip, tables
from mixtral_probe.tables.write import TOKEN_TEXT

FONT = "'Source Sans', 'Source Sans 3', 'Source Sans Pro', sans-serif"
"""The font of the page, which is part of Streamlit."""
_FOOT = 42
"""Pixels below the panels, for the axis."""
_CONFIG: dict[str, Any] = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


def dark() -> bool:
    """Return whether the reader's page is dark."""
    return st.context.theme.type == "dark"


def fetch_early() -> None:
    """Load the script that draws charts, 4.7 MB, in the browser while the first tables are computed."""
    if script := drawing_script():
        st.html(f"<script>import('./static/js/{script}')</script>", unsafe_allow_javascript=True)


@cache
def drawing_script() -> str | None:
    """Find Streamlit's script that draws charts; None where it has another name and is loaded with the first chart."""
    files = sorted((Path(st.__file__).parent / "static" / "static" / "js").glob("PlotlyChart.*.js"))
    return files[0].name if len(files) == 1 else None


def show(figure: go.Figure, table: pd.DataFrame, key: str, name: str) -> None:
    """Draw a chart, and below it its table and CSV.

    Args:
        figure: from `figures`; its subtitle says scope and n.
        table: what it shows.
        key: of its widgets.
        name: of the CSV.
    """
    bare = _with_heading(figure)
    with st.container(key=f"panels_{key}") if _panels_side_by_side(bare) > 1 else st.container():
        st.plotly_chart(bare, theme=None, key=f"{key}_chart", config=_CONFIG, alt=_alternative_text(figure))
    table_and_csv(table, key, name)


def _panels_side_by_side(figure: go.Figure) -> int:
    """Count the panels side by side."""
    return len({axis.domain for axis in figure.select_xaxes()})


def navigator(figure: go.Figure, table: pd.DataFrame, key: str, name: str) -> tuple[Any, ...] | None:
    """Draw a chart whose cells can be clicked, else as `show`; return the `customdata` of a new click, or None."""
    event: Any = st.plotly_chart(
        _with_heading(figure),
        theme=None,
        key=f"{key}_chart",
        config=_CONFIG,
        alt=_alternative_text(figure),
        on_select="rerun",
        selection_mode="points",
    )
    table_and_csv(table, key, name)
    points = event["selection"]["points"]
    cell = tuple(points[0]["customdata"]) if points else None
    # The browser sends the selection again at every run, so it is compared with the last one.
    before, st.session_state[f"{key}_cell"] = st.session_state.get(f"{key}_cell"), cell
    return cell if cell != before else None


class _Brushed(go.Figure):
    """A figure in which a drag selects and clicks are still sent.

    Streamlit ignores clicks where the `dragmode` of a figure is "select". It does not read that of the template, which
    plotly uses where it does not know the figure's.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as sent to the browser."""
        sent: dict[str, Any] = super().to_dict()
        return sent | {"layout": sent["layout"] | {"dragmode": "of the template"}}


def brush(figure: go.Figure, table: pd.DataFrame, key: str, name: str) -> None:
    """Draw a chart that can be clicked and dragged over; `new_click`, `new_box` and `area` return the results."""
    drawn = _Brushed(_with_heading(figure)).update_layout(template_layout_dragmode="select")
    st.plotly_chart(
        drawn,
        theme=None,
        key=f"{key}_chart",
        config=_CONFIG | {"modeBarButtonsToRemove": [*_CONFIG["modeBarButtonsToRemove"], "zoom2d", "pan2d"]},
        alt=_alternative_text(figure),
        on_select="rerun",
        selection_mode=("points", "box"),
    )
    table_and_csv(table, key, name)


def new_click(key: str) -> tuple[Any, ...] | None:
    """Return the `customdata` of a click in the `brush` of this key since the last run, else None."""
    cells = _new_cells(key, "cell", by_box=False)
    return cells[0] if cells else None


def new_box(key: str) -> list[tuple[Any, ...]]:
    """Return the `customdata` of all cells in a box drawn over the `brush` of this key since the last run."""
    return _new_cells(key, "box", by_box=True)


def _new_cells(key: str, what: str, *, by_box: bool) -> list[tuple[Any, ...]]:
    """Compare the selection with the last one, since the browser sends it again at every run."""
    event: Any = st.session_state.get(f"{key}_chart")
    points = event["selection"]["points"] if event and bool(event["selection"]["box"]) == by_box else []
    cells = [tuple(point["customdata"]) for point in points]
    before, st.session_state[f"{key}_{what}"] = st.session_state.get(f"{key}_{what}"), cells
    return cells if cells != before else []


def area(key: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return the area dragged over the `brush` of this key: from and to along x, and along y."""
    event: Any = st.session_state.get(f"{key}_chart")
    if not event or not event["selection"]["box"]:
        return None
    box = event["selection"]["box"][0]
    return (min(box["x"]), max(box["x"])), (min(box["y"]), max(box["y"]))


def _with_heading(figure: go.Figure) -> go.Figure:
    """Write a figure's title, scope and n as text of the page, where they wrap; return the figure without them.

    Both are escaped by `figures`, and `st.html` cleans them once more.
    """
    title = figure.layout.title
    note = (title.subtitle.text or "").replace("<br>", " ")
    st.html(f'<div class="figure-head"><b>{title.text}</b><small>{note}</small></div>')
    legend = any(getattr(trace, "showlegend", False) for trace in figure.data)  # bands have no such attribute
    panels = any(note.text for note in figure.layout.annotations)
    top = 12 + 26 * legend + 22 * panels
    # A copy either way, because figures are cached; they have the colours of a light page.
    bare = figures.themed(figure, dark=True) if dark() else go.Figure(figure)
    margin = figure.layout.template.layout.margin
    height = figure.layout.height - margin.t - margin.b + top + _FOOT
    return bare.update_layout(title=None, height=height, margin={"t": top, "b": _FOOT}, font={"family": FONT})


def _alternative_text(figure: go.Figure) -> str:
    """Describe a figure for a screen reader; its numbers are in the table below it."""
    return f"Chart: {html.unescape(figure.layout.title.text)}. Switch on its table to read the numbers."


def table_and_csv(table: pd.DataFrame, key: str, name: str, *, opened: bool = False) -> None:
    """Draw a switch that shows a table, and a button that downloads all of it."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        shown = choices.switch("Table", f"{key}_table", on=opened)
        csv_button(table, key, name)
    if shown:
        frame(table)


def csv_button(table: pd.DataFrame, key: str, name: str) -> None:
    """Draw a button that downloads a table."""
    st.download_button(
        "CSV",  # without `help`, for which Streamlit would draw the button twice
        data=lambda: csv_bytes(table),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{key}_csv",
        on_click="ignore",
        icon=":material/download:",
        type="tertiary",
    )


def frame(table: pd.DataFrame) -> None:
    """Draw the first rows of a table."""
    st.dataframe(visible(table.head(settings.ROWS_SHOWN)), hide_index=True)
    if len(table) > settings.ROWS_SHOWN:
        st.caption(f"The first {settings.ROWS_SHOWN:,} of {len(table):,} rows; the CSV has all.")


def visible(table: pd.DataFrame) -> pd.DataFrame:
    """Replace invisible characters of a table's tokens by signs, as in the coloured text."""
    tokens = {name: table[name].astype(object).map(_signs, "ignore") for name in TOKEN_TEXT if name in table}
    return table.assign(**tokens)


def _signs(token: str) -> str:
    return "".join(text for text, _ in strip.parts(token))


def csv_bytes(table: pd.DataFrame) -> bytes:
    """Return the file that `tables.write_csv` writes."""
    with tempfile.TemporaryDirectory(prefix="mixtral-probe-csv-") as folder:
        return tables.write_csv(table, Path(folder) / "table.csv").read_bytes()
