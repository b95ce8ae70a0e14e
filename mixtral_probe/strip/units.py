"""Words, lines and sentences as coloured text."""

import numpy as np
import pandas as pd

from mixtral_probe import figures
from mixtral_probe.strip.routed import FAINTEST, STRONGEST
from mixtral_probe.strip.tokens import Bar, Token, dimmed
from mixtral_probe.strip.windows import TokenRange
from mixtral_probe.trace import Trace


def by_unit(
    document: Trace, units: pd.DataFrame, window: TokenRange, *, layer: int, selected: pd.DataFrame | None = None
) -> list[Token]:
    """Return units coloured by the expert with the largest share of their gate weights, as opaque as that share.

    A unit none of whose tokens went to an expert has no row in the table, and is left out.

    Args:
        document: a trace of one document.
        units: its `tables.unit_routes`.
        window: which units: those whose first token lies in it.
        layer: as the model numbers it.
        selected: the same of the selected tokens; units without one are dimmed. None for all.
    """
    inside = _at(units if selected is None else selected, document, window, layer)
    rest = _at(units, document, window, layer)
    rest = rest[~rest["row"].isin(inside["row"].unique()).to_numpy(dtype=bool)]
    special = document.tokens["special"].to_numpy(dtype=bool)
    drawn = [
        _drawn(int(row), shares, document.num_experts, bool(special[int(row)]))
        for part in (inside, rest)
        for row, shares in part.groupby("row")
    ]
    return dimmed(sorted(drawn, key=lambda token: token.row), set(inside["row"].tolist()))


def _at(units: pd.DataFrame, document: Trace, window: TokenRange, layer: int) -> pd.DataFrame:
    return window.rows_of(units[(units["layer"] == layer).to_numpy(dtype=bool)], document)


def _drawn(row: int, shares: pd.DataFrame, experts: int, special: bool) -> Token:
    share = np.zeros(experts)
    share[shares["expert"].to_numpy(np.int64)] = shares["value"].to_numpy(float)
    most, colors = int(share.argmax()), figures.expert_colors(experts)
    facts = [("tokens", f"{int(shares['n'].iloc[0])}"), ("position", f"{int(shares['position'].iloc[0])}")]
    facts.append((f"expert {most}", f"{share[most]:.1%}"))
    bars = [Bar(f"{i}", value, f"{value:.1%}", colors[i], i == most) for i, value in enumerate(share.tolist())]
    strength = FAINTEST + (STRONGEST - FAINTEST) * share[most]
    return Token(row, str(shares["token"].iloc[0]), facts, colors[most], float(strength), special, bars=bars)
