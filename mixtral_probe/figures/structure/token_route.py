"""The way of one token through all layers: `token_route`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, ticks

_NUMBERED = 16
"""Up to this many experts each logit is written into its cell."""
_SILENT = {"hoverinfo": "skip", "showlegend": False}


@of_table
def token_route(
    table: pd.DataFrame,
    *,
    document: int,
    position: int,
    chunk: int = 0,
    num_experts: int | None = None,
    logits: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw the way of one token through all layers: its chosen experts, sized by weight and numbered by rank.

    Args:
        table: `tables.routes`; its margins, where there are any, stand on the right.
        document: the token's document.
        position: its position in the window.
        chunk: the window.
        num_experts: E; None for as many as occur in the table.
        logits: `tables.token_logits` of this token, for the ground and the small numbers.

    Raises:
        InputError: the table lacks that token.
    """
    rows = _of_token(table, document=document, chunk=chunk, position=position)
    experts = num_experts if num_experts is not None else int(table["expert"].max()) + 1
    layers = sorted(int(layer) for layer in rows["layer"].unique())
    y = rows["layer"].map({layer: number for number, layer in enumerate(layers)}).to_numpy(np.int64)
    figure = go.Figure([*_grounds(logits, layers), _strongest(rows, y), _choices(rows, y, experts)])
    places, texts = ticks(layers, 32)
    figure.update_yaxes(title_text="layer", tickvals=places, ticktext=texts, range=[len(layers) - 0.4, -0.6])
    _expert_axis(figure, rows, y, experts)
    where = f"document {document} · " + (f"window {chunk} · " if chunk else "") + f"position {position}"
    title = f"Route of “{label(rows['token'].iloc[0])}”" if rows["token"].notna().all() else "Route of one token"
    note = f"{where} · number: rank (0 = strongest) · size: weight · line: strongest choice"
    note += " · ground and small numbers: logits, nats" if logits is not None and len(logits) else ""
    figure.update_layout(coloraxis={"showscale": False})
    height, roles = 180 + 26 * len(layers), {"coloraxis": "sequential"}
    return finish(figure, title, f"{note} · n = 1 token", height=height, roles=roles)


def _of_token(table: pd.DataFrame, **keys: int) -> pd.DataFrame:
    mask = np.logical_and.reduce([(table[name] == value).to_numpy(dtype=bool) for name, value in keys.items()])
    if not mask.any():
        place = ", ".join(f"{name} {value}" for name, value in keys.items())
        raise InputError(f"a route needs a token of the table, got {place}, which it lacks")
    return table[mask]


def _grounds(logits: pd.DataFrame | None, layers: list[int]) -> list[go.Heatmap | go.Scatter]:
    """Return every expert's logit as the ground of its cell and, where there is room, as a number in its corner."""
    if logits is None or logits.empty:
        return []
    z = logits.pivot(index="layer", columns="expert", values="logit").reindex(layers).to_numpy(float)
    template = "expert %{x}<br>logit %{z:.3f}<extra></extra>"
    ground = go.Heatmap(z=z, coloraxis="coloraxis", opacity=0.35, xgap=1, ygap=1, hovertemplate=template)
    if z.shape[1] > _NUMBERED:
        return [ground]
    y, x = np.indices(z.shape)
    texts = np.array([f"{logit:.1f}" for logit in z.ravel()], dtype=object)
    style = {"mode": "text", "textfont": {"size": 9}, **_SILENT}
    return [ground, go.Scatter(x=x.ravel() + 0.34, y=y.ravel() + 0.28, text=texts, **style)]


def _expert_axis(figure: go.Figure, rows: pd.DataFrame, y: np.ndarray, experts: int) -> None:
    """Put experts along x and, behind the last, the margin of each layer."""
    thinned, texts = ticks(list(range(experts)), 32)
    places = thinned.tolist()
    first = (rows["rank"] == 0).to_numpy(dtype=bool) & rows["margin"].notna().to_numpy(dtype=bool)
    if first.any():
        margins = np.array([f"{margin:.2f}" for margin in rows["margin"].to_numpy(float)[first]], dtype=object)
        x = np.full(len(margins), float(experts))
        figure.add_trace(go.Scatter(x=x, y=y[first], text=margins, mode="text", textfont={"size": 11}, **_SILENT))
        places, texts = [*places, experts], [*texts, "margin"]
    figure.update_xaxes(title_text="expert", tickvals=places, ticktext=texts)
    figure.update_xaxes(range=[-0.6, experts - 0.4 + bool(first.any())], showgrid=False)


def _strongest(rows: pd.DataFrame, y: np.ndarray) -> go.Scatter:
    first = (rows["rank"] == 0).to_numpy(dtype=bool)
    line = {"color": "rgba(128,139,150,0.55)", "width": 2}
    return go.Scatter(x=rows["expert"].to_numpy(np.int64)[first], y=y[first], mode="lines", line=line, **_SILENT)


def _choices(rows: pd.DataFrame, y: np.ndarray, experts: int) -> go.Scatter:
    expert, weight = rows["expert"].to_numpy(np.int64), rows["weight"].to_numpy(float)
    colors = np.array(expert_colors(experts), dtype=object)
    return go.Scatter(
        x=expert,
        y=y,
        mode="markers+text",
        text=rows["rank"].astype(str).to_numpy(dtype=object),
        textfont={"size": 10, "color": "#ffffff"},
        marker={
            "size": 12 + 16 * np.sqrt(np.nan_to_num(weight, nan=0.5)),
            "color": colors[expert],
            "line": {"width": 0},
            "opacity": 1,
        },
        customdata=rows[["layer", "expert", "rank", "weight", "margin"]].astype(object).to_numpy(),
        hovertemplate=(
            "layer %{customdata[0]} · expert %{customdata[1]}<br>rank %{customdata[2]}, weight %{customdata[3]:.3f}"
            "<br>margin %{customdata[4]:.3f} nats<extra></extra>"
        ),
        showlegend=False,
    )
