"""What single tokens add to the balance loss: `balance_loss_tokens`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import layer_grid, layer_rows
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import LABELLED, label, rows_of, subtitle, window_name
from mixtral_probe.tables.registry import metric_of

_METRIC = "token_balance_loss"


@of_table
def balance_loss_tokens(table: pd.DataFrame, *, document: int = 0, chunk: int = 0) -> go.Figure:
    """Draw position × layer: what each token of one window adds to each layer's balance loss, around the balanced 1.

    Args:
        table: `tables.balance_loss_tokens`.
        document: the document.
        chunk: its window.

    Raises:
        InputError: the table lacks that document or window.
    """
    rows = rows_of(table, _METRIC, document=document, chunk=chunk)
    layers = sorted(int(layer) for layer in rows["layer"].unique())
    figure = go.Figure(_heat(rows, layers))
    _token_axis(figure, rows)
    layer_rows(figure, layers)
    quantity = metric_of(_METRIC)
    bar, balanced = {"title": {"text": quantity.label, "side": "right"}}, [*quantity.references(rows.columns)][-1]
    figure.update_layout(coloraxis={"cmid": float(rows[balanced].iloc[0]), "colorbar": bar})
    title = f"Balance loss by token, {window_name(document, chunk)}"
    height, roles = 190 + max(120, 20 * len(layers)), {"coloraxis": "diverging"}
    return finish(figure, title, subtitle(rows), height=height, roles=roles)


def _heat(rows: pd.DataFrame, layers: list[int]) -> go.Heatmap:
    """Return a cell for every layer and position from the first to the last."""
    position = rows["position"].to_numpy(np.int64)
    start, length = int(position.min()), int(np.ptp(position)) + 1
    return go.Heatmap(
        x=np.arange(start, start + length),
        y=np.arange(len(layers)),
        z=layer_grid(rows, layers, position - start, length).astype(np.float32),
        text=_texts(rows, start, length, len(layers)),
        coloraxis="coloraxis",
        hovertemplate="%{text} · position %{x}<br>layer %{y}: %{z:.3f}<extra></extra>",
    )


def _token_texts(rows: pd.DataFrame) -> pd.Series:
    """Return the label by position of the tokens that have a text."""
    texts = rows.drop_duplicates("position").set_index("position")["token"].dropna()
    return pd.Series([label(text) for text in texts], index=texts.index, dtype=object)


def _texts(rows: pd.DataFrame, start: int, length: int, layers: int) -> np.ndarray:
    """[L, positions] the token's text for every cell."""
    row = np.full(length, "token", dtype=object)
    texts = _token_texts(rows)
    row[texts.index.to_numpy(np.int64) - start] = texts.to_numpy()
    return np.broadcast_to(row, (layers, length))


def _token_axis(figure: go.Figure, rows: pd.DataFrame) -> None:
    """Put positions along x; short windows have the tokens' texts at their positions."""
    texts = _token_texts(rows)
    figure.update_xaxes(title_text="position", showgrid=False)
    if rows["position"].nunique() <= LABELLED and len(texts):
        places = texts.index.to_numpy(np.int64)
        figure.update_xaxes(title_text="token", tickvals=places, ticktext=texts.tolist(), tickangle=-60)
