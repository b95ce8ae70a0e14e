"""A document's tokens as coloured text: by chosen expert, or by balance loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixtral_probe import figures
from mixtral_probe.strip.routed import choices, place_of, routed, text_of
from mixtral_probe.strip.tokens import Token
from mixtral_probe.trace import Trace

LOSS = 0.45
"""Opacity of a ground on the scale of the loss, whose far end is as dark, or as light, as the text."""


@dataclass(frozen=True)
class TokenRange:
    """Some rows of one document."""

    start: int
    stop: int

    def rows_of(self, table: pd.DataFrame, document: Trace) -> pd.DataFrame:
        """Return a table's rows about these tokens; `document` is a trace of this document alone."""
        place = _place(document.tokens)
        row = np.searchsorted(place, _place(table))
        return table.assign(row=row)[(row >= self.start) & (row < self.stop)]


def windows(tokens: int, size: int) -> list[TokenRange]:
    """Cut a document of so many tokens into windows of a size."""
    return [TokenRange(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _place(table: pd.DataFrame) -> np.ndarray:
    """[rows] a number that grows along a document."""
    return table["chunk"].to_numpy(np.int64) * 2**32 + table["position"].to_numpy(np.int64)


def by_expert(
    document: Trace, routes: pd.DataFrame, window: TokenRange, *, layer: int, row: int, rank: int
) -> list[Token]:
    """Return tokens coloured by the expert of one rank, as opaque as its weight.

    Args:
        document: a trace of one document.
        routes: its `tables.routes`.
        window: which tokens.
        layer: as the model numbers it.
        row: of that layer in the trace's arrays.
        rank: 0 for the first choice.
    """
    rows = window.rows_of(routes[(routes["layer"] == layer).to_numpy(dtype=bool)], document)
    choice = choices(rows)
    colors = figures.expert_colors(document.num_experts)
    tokens = document.tokens.iloc[window.start : window.stop]
    return [
        routed(number, token, choice.get(number), rank, colors, _logits(document, row, number))
        for number, token in zip(range(window.start, window.stop), tokens.itertuples(), strict=True)
    ]


def _logits(document: Trace, row: int, number: int) -> list[float]:
    return [] if document.router_logits is None else [float(z) for z in document.router_logits[row, number]]


def by_loss(
    document: Trace, losses: pd.DataFrame, window: TokenRange, *, layer: int, dark: bool
) -> tuple[list[Token], tuple[float, float]]:
    """Return tokens coloured by their part of a layer's balance loss, and the values at the ends of the colour scale.

    Args:
        document: a trace of one document.
        losses: the rows of `tables.balance_loss_tokens` about it.
        window: which tokens.
        layer: as the model numbers it.
        dark: whether the page is dark.
    """
    at_layer = losses[(losses["layer"] == layer).to_numpy(dtype=bool)]
    low, high = float(at_layer["value"].min()), float(at_layer["value"].max())
    parts = window.rows_of(at_layer, document).set_index("row")["value"]
    place = (parts.to_numpy(float) - low) / (high - low or 1)
    scale = figures.scales(dark)["sequential"]
    colors = {row: _on_scale(scale, float(at)) for row, at in zip(parts.index, place, strict=True)}
    tokens = document.tokens.iloc[window.start : window.stop]
    numbered = zip(range(window.start, window.stop), tokens.itertuples(), strict=True)
    return [_lossy(number, token, parts.get(number), colors.get(number)) for number, token in numbered], (low, high)


def _on_scale(scale: Sequence[tuple[float, str]], at: float) -> str:
    """Return the colour at a place in [0, 1] of a plotly scale with evenly spaced stops, as CSS."""
    below = min(int(at * (len(scale) - 1)), len(scale) - 2)
    part = at * (len(scale) - 1) - below
    return f"color-mix(in srgb, {scale[below + 1][1]} {part:.0%}, {scale[below][1]})"


def _lossy(number: int, token: object, value: float | None, color: str | None) -> Token:
    text, special = text_of(token), bool(token.special)  # type: ignore[attr-defined]
    if value is None or color is None:
        return Token(number, text, [*place_of(token), ("part of the loss", "not counted")], special=special)
    return Token(number, text, [*place_of(token), ("part of the loss", f"{value:.4f}")], color, LOSS, special)
