"""Figures of single tokens: `token_route`, `route_overlap`, `balance_loss_tokens`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.theme import ACCENT, REFERENCE, finish
from mixtral_probe.figures.words import hover, label, rows_of, subtitle, ticks, words_of

_LABELLED = 40
"""Up to this many tokens each has its text on the axis; above, positions only."""
_NUMBERED = 16
"""Up to this many experts each logit is written into its cell."""


def token_route(
    table: pd.DataFrame,
    *,
    document: int,
    position: int,
    chunk: int = 0,
    num_experts: int | None = None,
    logits: pd.DataFrame | None = None,
) -> go.Figure:
    """The way of one token through all layers: its chosen experts, sized by weight and numbered by rank.

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
    shown = _one_token(table, document=document, chunk=chunk, position=position)
    experts = num_experts if num_experts is not None else int(table["expert"].max()) + 1
    layers = sorted(int(layer) for layer in shown["layer"].unique())
    y = shown["layer"].map({layer: number for number, layer in enumerate(layers)}).to_numpy(np.int64)
    figure = go.Figure([*_grounds(logits, layers), _strongest(shown, y), _choices(shown, y, experts)])
    places, texts = ticks(layers, 32)
    figure.update_yaxes(title_text="layer", tickvals=places, ticktext=texts, range=[len(layers) - 0.4, -0.6])
    _expert_axis(figure, shown, y, experts)
    where = f"document {document} · " + (f"window {chunk} · " if chunk else "") + f"position {position}"
    title = f"Route of “{label(shown['token'].iloc[0])}”" if shown["token"].notna().all() else "Route of one token"
    note = f"{where} · number: rank (0 = strongest) · size: weight · line: strongest choice"
    note += " · ground and small numbers: logits, nats" if logits is not None and len(logits) else ""
    figure.update_layout(coloraxis={"showscale": False})
    return finish(
        figure, title, f"{note} · n = 1 token", height=180 + 26 * len(layers), roles={"coloraxis": "sequential"}
    )


def _grounds(logits: pd.DataFrame | None, layers: list[int]) -> list[go.Heatmap | go.Scatter]:
    """Every expert's logit as the ground of its cell and, where there is room, as a number in its corner."""
    if logits is None or logits.empty:
        return []
    z = logits.pivot(index="layer", columns="expert", values="logit").reindex(layers).to_numpy(float)
    y, x = np.indices(z.shape)
    hover = "expert %{x}<br>logit %{z:.3f}<extra></extra>"
    ground = go.Heatmap(z=z, coloraxis="coloraxis", opacity=0.35, xgap=1, ygap=1, hovertemplate=hover)
    if z.shape[1] > _NUMBERED:
        return [ground]
    texts = np.array([f"{value:.1f}" for value in z.ravel()], dtype=object)
    style = {"mode": "text", "textfont": {"size": 9}, "hoverinfo": "skip", "showlegend": False}
    return [ground, go.Scatter(x=x.ravel() + 0.34, y=y.ravel() + 0.28, text=texts, **style)]


def _expert_axis(figure: go.Figure, shown: pd.DataFrame, y: np.ndarray, experts: int) -> None:
    """Experts along x and, behind the last, the margin of each layer."""
    thinned, texts = ticks(list(range(experts)), 32)
    places = thinned.tolist()
    first = (shown["rank"] == 0).to_numpy(dtype=bool) & shown["margin"].notna().to_numpy(dtype=bool)
    if first.any():
        margins = np.array([f"{value:.2f}" for value in shown["margin"].to_numpy(float)[first]], dtype=object)
        at = np.full(len(margins), float(experts))
        style = {"mode": "text", "textfont": {"size": 11}, "hoverinfo": "skip", "showlegend": False}
        figure.add_trace(go.Scatter(x=at, y=y[first], text=margins, **style))
        places, texts = [*places, experts], [*texts, "margin"]
    figure.update_xaxes(title_text="expert", tickvals=places, ticktext=texts)
    figure.update_xaxes(range=[-0.6, experts - 0.4 + bool(first.any())], showgrid=False)


def _one_token(table: pd.DataFrame, **keys: int) -> pd.DataFrame:
    mask = np.logical_and.reduce([(table[name] == value).to_numpy(dtype=bool) for name, value in keys.items()])
    if not mask.any():
        asked = ", ".join(f"{name} {value}" for name, value in keys.items())
        raise InputError(f"a route needs a token of the table, but there is none at {asked}")
    return table[mask]


def _strongest(shown: pd.DataFrame, y: np.ndarray) -> go.Scatter:
    first = (shown["rank"] == 0).to_numpy(dtype=bool)
    return go.Scatter(
        x=shown["expert"].to_numpy(np.int64)[first],
        y=y[first],
        mode="lines",
        line={"color": "rgba(128,139,150,0.55)", "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def _choices(shown: pd.DataFrame, y: np.ndarray, experts: int) -> go.Scatter:
    expert, weight = shown["expert"].to_numpy(np.int64), shown["weight"].to_numpy(float)
    colors = np.array(expert_colors(experts), dtype=object)
    return go.Scatter(
        x=expert,
        y=y,
        mode="markers+text",
        text=shown["rank"].astype(str).to_numpy(dtype=object),
        textfont={"size": 10, "color": "#ffffff"},
        marker={
            "size": 12 + 16 * np.sqrt(np.nan_to_num(weight, nan=0.5)),
            "color": colors[expert],
            "line": {"width": 0},
            "opacity": 1,
        },
        customdata=shown[["layer", "expert", "rank", "weight", "margin"]].astype(object).to_numpy(),
        hovertemplate=(
            "layer %{customdata[0]} · expert %{customdata[1]}<br>rank %{customdata[2]}, weight %{customdata[3]:.3f}"
            "<br>margin %{customdata[4]:.3f} nats<extra></extra>"
        ),
        showlegend=False,
    )


def route_overlap(table: pd.DataFrame) -> go.Figure:
    """How many experts two tokens have in common in each layer, with what chance gives dotted.

    Args:
        table: `tables.route_overlap`.

    Raises:
        InputError: the table is empty.
    """
    shown = rows_of(table[table["layer"].notna()], "shared_experts")
    words, places = words_of("shared_experts"), np.arange(len(shown))
    value = shown["value"].to_numpy(float)
    texts = np.array([words.text(number) for number in value], dtype=object)
    hovers = hover(shown, ["layer"], words)
    said = {
        "text": texts,
        "textposition": "outside",
        "hovertext": hovers,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    bars = go.Bar(x=places, y=value, marker={"color": ACCENT}, width=0.6, showlegend=False, **said)
    line = {"color": REFERENCE, "dash": "dot", "width": 1.8}
    null = go.Scatter(x=places, y=shown["null"].to_numpy(float), mode="lines+markers", line=line, name=words.null)
    figure = go.Figure([bars, null.update(marker={"size": 4}, hoverinfo="skip", showlegend=True)])
    ticks_at, names = ticks(shown["layer"])
    figure.update_xaxes(title_text="layer", tickvals=ticks_at, ticktext=names, showgrid=False)
    most = max(1.0, float(np.nan_to_num(value).max()), float(np.nan_to_num(shown["null"].to_numpy(float)).max()))
    figure.update_yaxes(title_text=words.name, range=[0, 1.25 * most], dtick=1)
    return finish(figure, "Experts in common, layer by layer", subtitle(shown), height=300)


def balance_loss_tokens(table: pd.DataFrame, *, document: int = 0, chunk: int = 0) -> go.Figure:
    """Position × layer: what each token of one window adds to each layer's balance loss, around the balanced 1.

    Args:
        table: `tables.balance_loss_tokens`.
        document: the document.
        chunk: its window.

    Raises:
        InputError: the table lacks that document or window.
    """
    shown = rows_of(table, "token_balance_loss", document=document, chunk=chunk)
    words = words_of("token_balance_loss")
    layers = sorted(int(layer) for layer in shown["layer"].unique())
    positions = np.sort(shown["position"].unique()).astype(np.int64)
    start, length = int(positions[0]), int(positions[-1] - positions[0]) + 1
    z = np.full((len(layers), length), np.nan, np.float32)
    row = shown["layer"].map({layer: number for number, layer in enumerate(layers)}).to_numpy(np.int64)
    z[row, shown["position"].to_numpy(np.int64) - start] = shown["value"].to_numpy(np.float32)
    figure = go.Figure(
        go.Heatmap(
            x=np.arange(start, start + length),
            y=np.arange(len(layers)),
            z=z,
            text=_texts(shown, start, length, len(layers)),
            coloraxis="coloraxis",
            hovertemplate="%{text} · position %{x}<br>layer %{y}: %{z:.3f}<extra></extra>",
        )
    )
    _token_axis(figure, shown, positions)
    places, names = ticks(layers)
    figure.update_yaxes(title_text="layer", tickvals=places, ticktext=names, autorange="reversed", showgrid=False)
    null = float(shown["null"].iloc[0])
    figure.update_layout(coloraxis={"cmid": null, "colorbar": {"title": {"text": words.name, "side": "right"}}})
    where = f"document {document}" + (f", window {chunk}" if chunk else "")
    roles = {"coloraxis": "diverging"}
    return finish(
        figure, f"Balance loss by token, {where}", subtitle(shown), height=190 + max(120, 20 * len(layers)), roles=roles
    )


def _token_texts(shown: pd.DataFrame) -> pd.Series:
    """Label by position, of the tokens that have a text."""
    first = shown.drop_duplicates("position").set_index("position")["token"].dropna()
    return pd.Series([label(text) for text in first], index=first.index, dtype=object)


def _texts(shown: pd.DataFrame, start: int, length: int, layers: int) -> np.ndarray:
    """[L, positions] the token's text for every cell."""
    line = np.full(length, "token", dtype=object)
    texts = _token_texts(shown)
    line[texts.index.to_numpy(np.int64) - start] = texts.to_numpy()
    return np.broadcast_to(line, (layers, length))


def _token_axis(figure: go.Figure, shown: pd.DataFrame, positions: np.ndarray) -> None:
    """Positions along x; short windows show the tokens' texts at their positions."""
    texts = _token_texts(shown)
    figure.update_xaxes(title_text="position", showgrid=False)
    if len(positions) <= _LABELLED and len(texts):
        ticks_at = texts.index.to_numpy(np.int64)
        figure.update_xaxes(title_text="token", tickvals=ticks_at, ticktext=texts.tolist(), tickangle=-60)
