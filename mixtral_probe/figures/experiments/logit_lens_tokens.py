"""What each layer would predict, token by token: `logit_lens_tokens`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, window_name
from mixtral_probe.tables.registry import metric_of

MOST_TOKENS = 64
_SHORT = 12
"""Characters of a token in a cell and in hover."""


@of_table
def logit_lens_tokens(table: pd.DataFrame, *, document: int = 0, chunk: int = 0, start: int = 0) -> go.Figure:
    """Draw layer × position: the best prediction of each layer as text, its probability as colour; the last on top.

    Args:
        table: `tables.logit_lens_tokens`.
        document, chunk: the window.
        start: the first of at most 64 positions.

    Raises:
        InputError: the table has none of them.
    """
    stop = start + MOST_TOKENS
    within = table["position"].between(start, stop, inclusive="left") & (table["document"] == document)
    rows = table[(within & (table["chunk"] == chunk)).to_numpy(dtype=bool)]
    if rows.empty:
        raise InputError(
            f"positions must be some of the table, got those from {start} of window {chunk} of document {document}"
        )
    layers, positions = (np.sort(rows[name].unique()).astype(int) for name in ("layer", "position"))
    shape = (len(layers), len(positions), int(rows["rank"].max()) + 1)
    ordered = rows.sort_values(["layer", "position", "rank"])
    texts = np.array([label(str(text)[:_SHORT]) for text in ordered["predicted"]], dtype=object).reshape(shape)
    values = ordered["value"].to_numpy(float).reshape(shape)
    tokens = ordered["token"].to_numpy(object).reshape(shape)[0, :, 0]
    names = [
        label(str(token)[:_SHORT]) if pd.notna(token) else str(at) for token, at in zip(tokens, positions, strict=True)
    ]
    figure = go.Figure(_heat(texts, values, names, layers, positions))
    figure.update_xaxes(title_text="after the token", tickvals=positions, ticktext=names, tickangle=-60, showgrid=False)
    figure.update_yaxes(title_text="layer", tickvals=layers, showgrid=False)
    bar = {"title": {"text": metric_of("lens_probability").label, "side": "right"}, "tickformat": ".0%"}
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorbar": bar})
    where = window_name(document, chunk)
    note = f"positions {positions[0]} – {positions[-1]} of {where} · cell: the layer's best next token"
    height = 220 + 30 * len(layers)
    return finish(figure, "What each layer would predict", note, height=height, roles={"coloraxis": "sequential"})


def _heat(
    texts: np.ndarray, values: np.ndarray, names: list[str], layers: np.ndarray, positions: np.ndarray
) -> go.Heatmap:
    """Return the best of texts and probabilities [L, positions, ranks] as cells, with the texts where they are few."""
    return go.Heatmap(
        x=positions,
        y=layers,
        z=values[..., 0].astype(np.float32),
        text=texts[..., 0],
        texttemplate="%{text}" if len(positions) <= 20 else None,
        textfont={"size": 11},
        customdata=_hover(texts, values, names, layers),
        hovertemplate="%{customdata}<extra></extra>",
        xgap=1,
        ygap=1,
        coloraxis="coloraxis",
    )


def _hover(texts: np.ndarray, values: np.ndarray, names: list[str], layers: np.ndarray) -> np.ndarray:
    """[L, positions] the ranked predictions."""
    quantity = metric_of("lens_probability")
    return np.array(
        [
            [
                f"after “{name}”, layer {layer}<br>"
                + "<br>".join(f"“{text}” {quantity.text(p)}" for text, p in zip(cell, odds, strict=True))
                for name, cell, odds in zip(names, row, chances, strict=True)
            ]
            for layer, row, chances in zip(layers, texts, values, strict=True)
        ],
        dtype=object,
    )
