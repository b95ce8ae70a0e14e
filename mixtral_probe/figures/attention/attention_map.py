"""One head's attention map, and the pooling that keeps long ones small: `attention_map`, `max_pool`."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import LABELLED, label

MAX_SIDE = 512
"""Rows and columns of a map at most; longer ones are pooled."""
EXACT_SIDE = 256
"""Up to this many rows and columns the values are exact; above, they are kept in 8 bits of the root."""
SHORT = 16
"""Characters of a token in hover."""
_MARKS = np.array([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0])
_LINEAR_MARKS = _MARKS[[0, 3, 4, 5, 6]]
_HOVER = "query %{y}<br>key %{x}"


def max_pool(weights: NDArray[np.floating], side: int = MAX_SIDE) -> tuple[NDArray[np.floating], int]:
    """[ceil(S/step), ceil(S/step)] the largest weight of each square of step × step, and the step.

    The step is the smallest that brings a map [S, S] to at most `side`; a map that already fits is returned as it is.
    The largest is kept, not the mean, so that a single strong link survives.
    """
    size = len(weights)
    step = max(1, -(-size // side))
    if step == 1:
        return weights, 1
    cells = -(-size // step)
    padded = np.zeros((cells * step, cells * step), weights.dtype)
    padded[:size, :size] = weights
    return padded.reshape(cells, step, cells, step).max((1, 3)), step


def root_bytes(weights: NDArray[np.floating]) -> NDArray[np.uint8]:
    """[...] the root of weights in [0, 1] in 8 bits: 255 for the weight 1."""
    return np.rint(255 * np.sqrt(np.clip(weights, 0, 1))).astype(np.uint8)


def attention_map(
    weights: NDArray[np.floating], tokens: Sequence[str] | None = None, *, name: str = "", start: int = 0
) -> go.Figure:
    """Draw which position attends to which in one head: row = query, column = key, both by position.

    Up to 256 positions the values are exact. Longer maps are max-pooled to at most 512 × 512 and kept in 8 bits of
    the root of the weight (steps below 0.8 % of full scale), so that a map of 2,048 tokens stays below 0.5 MB;
    their hover gives positions, their colour bar the weight. Hover of exact maps names the tokens.

    Args:
        weights: [S, S] rows sum to 1; nothing above the diagonal.
        tokens: [S] texts.
        name: which head of what, for the title.
        start: position of the first row and column, when the map is a part of a larger one.

    Raises:
        InputError: the map is not square or the tokens are not as many.
    """
    weights = np.asarray(weights)
    _check(weights, tokens)
    size = len(weights)
    heat, step = _exact(weights, tokens, start) if size <= EXACT_SIDE else _pooled(weights, start)
    figure = go.Figure(heat)
    figure.update_layout(coloraxis=color_bar(heat.z.dtype == np.uint8))
    _axes(figure, tokens, size, start)
    note = f"row: query, column: key · {size:,} positions"
    note += "" if step == 1 else f" · each cell the largest of {step} × {step}"
    title = f"Attention, {label(name)}" if name else "Attention"
    return finish(figure, title, note, height=720, roles={"coloraxis": "root8" if size > EXACT_SIDE else "root"})


def _check(weights: NDArray[np.floating], tokens: Sequence[str] | None) -> None:
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or not weights.size:
        raise InputError(f"an attention map must have the shape [S, S], got {weights.shape}")
    if tokens is not None and len(tokens) != len(weights):
        raise InputError(f"an attention map of {len(weights)} positions needs as many tokens, got {len(tokens)}")


def _exact(weights: NDArray[np.floating], tokens: Sequence[str] | None, start: int) -> tuple[go.Heatmap, int]:
    size = len(weights)
    place = start + np.arange(size)
    lower = np.where(np.tri(size, dtype=bool), weights, np.nan).astype(np.float32)
    template = _HOVER + "<br>%{z:.4f}<extra></extra>"
    heat = go.Heatmap(x=place, y=place, z=lower, coloraxis="coloraxis", hovertemplate=template)
    if tokens is not None:
        short = [label(str(token)[:SHORT]) for token in tokens]
        heat.update(text=_pairs(short), hovertemplate="<b>%{text}</b><br>" + heat.hovertemplate)
    return heat, 1


def _pooled(weights: NDArray[np.floating], start: int) -> tuple[go.Heatmap, int]:
    pooled, step = max_pool(weights)
    place = start + np.arange(len(pooled)) * step + (step - 1) / 2
    template = _HOVER + "<extra></extra>"
    heat = go.Heatmap(x=place, y=place, z=root_bytes(pooled), coloraxis="coloraxis", hovertemplate=template)
    return heat, step


def _pairs(texts: list[str]) -> np.ndarray:
    """[S, S] "query → key" in words for hover, empty above the diagonal."""
    return np.array(
        [
            [f"{query} → {key}" for key in texts[: row + 1]] + [""] * (len(texts) - row - 1)
            for row, query in enumerate(texts)
        ],
        dtype=object,
    )


def color_bar(root: bool) -> dict[str, object]:
    """Return the colour axis in true weights, whether the map has weights or 8-bit roots."""
    marks = _MARKS if root else _LINEAR_MARKS
    bar = {
        "title": {"text": "attention weight", "side": "right"},
        "tickvals": 255 * np.sqrt(marks) if root else marks,
        "ticktext": [f"{mark:g}" for mark in marks],
    }
    return {"cmin": 0, "cmax": 255 if root else 1, "colorbar": bar}


def _axes(figure: go.Figure, tokens: Sequence[str] | None, size: int, start: int) -> None:
    figure.update_xaxes(title_text="key position", showgrid=False, constrain="domain")
    figure.update_yaxes(
        title_text="query position", showgrid=False, autorange="reversed", scaleanchor="x", constrain="domain"
    )
    if tokens is not None and size <= LABELLED:
        texts = [label(token) for token in tokens]
        places = start + np.arange(size)
        figure.update_xaxes(title_text="key", tickvals=places, ticktext=texts, tickangle=-60)
        figure.update_yaxes(title_text="query", tickvals=places, ticktext=texts)
