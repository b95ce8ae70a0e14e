"""Text coloured by what one token attends to."""

from math import sqrt
from typing import Any

import pandas as pd

from mixtral_probe import figures
from mixtral_probe.figures.theme import ACCENT, SELECTED
from mixtral_probe.strip.routed import FAINTEST, STRONGEST, place_of, text_of
from mixtral_probe.strip.tokens import Token
from mixtral_probe.strip.windows import TokenRange
from mixtral_probe.tables.registry import metric_of
from mixtral_probe.trace import Trace


def by_attention(
    document: Trace, links: pd.DataFrame, window: TokenRange, *, chunk: int, marked: int, by_expert: bool = False
) -> list[Token]:
    """Return tokens coloured by their link with one marked token, as opaque as the root of its weight.

    What gets no more than even attention would give has no colour.

    Args:
        document: a trace of one document.
        links: rows of `tables.attention_weights` or `tables.attention_rollout` of one query; or of one key, then the
            queries are coloured.
        window: which tokens.
        chunk: the window of the text that the links are about; tokens of others have no colour.
        marked: position of the marked token.
        by_expert: in the colours of the experts that the attended tokens went to first.
    """
    key = "position" if links["query"].nunique() <= 1 else "query"
    link_of = {int(row[key]): row for row in links.to_dict("records")}
    colors = figures.expert_colors(document.num_experts)
    tokens = document.tokens.iloc[window.start : window.stop]
    drawn = []
    for number, token in zip(range(window.start, window.stop), tokens.itertuples(), strict=True):
        link = link_of.get(int(token.position)) if token.chunk == chunk else None
        drawn.append(_linked(number, token, link, marked, colors if by_expert else None))
    return drawn


def _linked(number: int, token: Any, link: dict[str, Any] | None, marked: int, colors: list[str] | None) -> Token:
    text, special, facts = text_of(token), bool(token.special), place_of(token)
    if link is None:
        return Token(number, text, [*facts, ("attention", "none possible")], special=special)
    quantity = metric_of(str(link["metric"]))
    facts += [(quantity.label, quantity.text(link["value"])), (quantity.null, quantity.text(link["null"]))]
    experts = str(link["experts"]).split()
    if experts:
        facts.append(("experts of the one looked at", ", ".join(experts)))
    strength = FAINTEST + (STRONGEST - FAINTEST) * sqrt(max(0.0, min(1.0, link["value"])))
    color = colors[int(experts[0])] if colors is not None and experts else ACCENT
    if token.position == marked:
        return Token(number, text, [("marked", "this token"), *facts], SELECTED, STRONGEST / 2, special)
    if link["value"] <= link["null"]:
        return Token(number, text, facts, special=special)
    return Token(number, text, facts, color, strength, special)
