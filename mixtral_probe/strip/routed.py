"""A token as its routing colours it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixtral_probe.strip.tokens import Bar, Token

FAINTEST, STRONGEST = 0.1, 0.75
"""Opacity of a ground for weights 0 and 1; never so strong that the text on it cannot be read."""


def routed(
    number: int, token: object, choices: pd.DataFrame | None, rank: int, colors: Sequence[str], logits: Sequence[float]
) -> Token:
    """A token coloured by its expert of one rank, as opaque as its weight.

    Args:
        number: its row in the document.
        token: its row of `Trace.tokens`, as `itertuples` gives it.
        choices: its rows of `tables.routes` at one layer, strongest first; None when it went to no expert.
        rank: 0 for the first choice.
        colors: [E] as CSS.
        logits: [E], or none when they were not recorded.
    """
    text, special = text_of(token), bool(token.special)  # type: ignore[attr-defined]
    facts = place_of(token)
    if choices is None:
        return Token(number, text, [*facts, ("routed to", "no expert")], special=special)
    experts = [int(expert) for expert in choices["expert"]]
    weights = [float(weight) for weight in choices["weight"]]
    facts += [(f"choice {i + 1}", _choice(*pair)) for i, pair in enumerate(zip(experts, weights, strict=True))]
    margin = float(choices["margin"].iloc[0])
    if not np.isnan(margin):
        facts.append(("margin", f"{margin:.3f} nats"))
    others = [expert for expert in np.argsort(logits)[::-1] if expert not in experts]
    if others:
        facts.append(("runner-up", f"expert {others[0]}"))
    bars = [Bar(f"{i}", z, f"{z:.3f}", colors[i], i in experts) for i, z in enumerate(logits)]
    if rank >= len(experts):
        return Token(number, text, facts, special=special, bars=bars)
    weight = 0.5 if np.isnan(weights[rank]) else weights[rank]
    strength = FAINTEST + (STRONGEST - FAINTEST) * weight
    return Token(number, text, facts, colors[experts[rank]], strength, special, bars)


def _choice(expert: int, weight: float) -> str:
    return f"expert {expert}" if np.isnan(weight) else f"expert {expert} · weight {weight:.3f}"


def text_of(token: object) -> str:
    """A token's text, or its number where the trace has none."""
    piece = token.piece  # type: ignore[attr-defined]
    return piece if isinstance(piece, str) else f"⟨{token.token_id}⟩"  # type: ignore[attr-defined]


def place_of(token: object) -> list[tuple[str, str]]:
    """Window, where there are several, and position, as facts of a hover."""
    chunk = [("window", f"{token.chunk}")] if token.chunk else []  # type: ignore[attr-defined]
    return [*chunk, ("position", f"{token.position}")]  # type: ignore[attr-defined]
