"""A token coloured by its routing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixtral_probe.strip.tokens import Bar, Token
from mixtral_probe.token_text import unknown_token

FAINTEST, STRONGEST = 0.1, 0.55
"""Opacity of a ground for weights 0 and 1; never so strong that the text on it cannot be read."""


@dataclass(frozen=True)
class Choice:
    """Where one layer sent one token."""

    experts: list[int]
    """Strongest first."""
    weights: list[float]
    """Of each; NaN where none were recorded."""
    margin: float
    """Nats, NaN where there is none."""


def choices(routes: pd.DataFrame) -> dict[int, Choice]:
    """Return the choice of each row; rows of `tables.routes` at one layer, in its order, with a column `row`."""
    row, margin = routes["row"].to_numpy(np.int64), routes["margin"].to_numpy(np.float64)
    expert, weight = (routes[name].to_numpy(kind).tolist() for name, kind in (("expert", np.int64), ("weight", float)))
    first = np.flatnonzero(np.diff(row, prepend=-1))
    ends = [*first[1:].tolist(), len(row)][: len(first)]  # of no row, none
    return {
        int(row[start]): Choice(expert[start:end], weight[start:end], float(margin[start]))
        for start, end in zip(first.tolist(), ends, strict=True)
    }


def routed(
    number: int, token: object, choice: Choice | None, rank: int, colors: Sequence[str], logits: Sequence[float]
) -> Token:
    """Return a token coloured by its expert of one rank, as opaque as its weight.

    Args:
        number: its row in the document.
        token: its row of `Trace.tokens`, as `itertuples` gives it.
        choice: None when it went to no expert.
        rank: 0 for the first choice.
        colors: [E] as CSS.
        logits: [E], or none when they were not recorded.
    """
    text, special = text_of(token), bool(token.special)  # type: ignore[attr-defined]
    facts = place_of(token)
    if choice is None:
        return Token(number, text, [*facts, ("routed to", "no expert")], special=special)
    experts, weights = choice.experts, choice.weights
    facts += [(f"choice {i + 1}", _choice(*pair)) for i, pair in enumerate(zip(experts, weights, strict=True))]
    if not np.isnan(choice.margin):
        facts.append(("margin", f"{choice.margin:.3f} nats"))
    others = [expert for expert in np.argsort(logits)[::-1] if expert not in experts]
    if others:
        facts.append(("runner-up", f"expert {others[0]}"))
    bars = [Bar(f"{i}", z, f"{z:.3f}", colors[i], i in experts) for i, z in enumerate(logits)]
    if rank >= len(experts):
        return Token(number, text, facts, special=special, bars=bars)
    weight = 0.5 if np.isnan(weights[rank]) else weights[rank]
    strength = FAINTEST + (STRONGEST - FAINTEST) * weight
    return Token(number, text, facts, colors[experts[rank]], strength, special, bars=bars)


def _choice(expert: int, weight: float) -> str:
    return f"expert {expert}" if np.isnan(weight) else f"expert {expert} · weight {weight:.3f}"


def text_of(token: object) -> str:
    """Return a token's text, or its number where the trace has none."""
    piece = token.piece  # type: ignore[attr-defined]
    return piece if isinstance(piece, str) else unknown_token(token.token_id)  # type: ignore[attr-defined]


def place_of(token: object) -> list[tuple[str, str]]:
    """Return window, where there are several, and position, as facts of a hover."""
    chunk = [("window", f"{token.chunk}")] if token.chunk else []  # type: ignore[attr-defined]
    return [*chunk, ("position", f"{token.position}")]  # type: ignore[attr-defined]
