"""A window of a trace as coloured text without a script: radio buttons and CSS alone choose its layer."""

from collections.abc import Sequence
from dataclasses import replace

from mixtral_probe.notebook.markup import text
from mixtral_probe.strip import BREAK, GLYPH, Token, TokenRange, by_expert, parts
from mixtral_probe.tables import routes
from mixtral_probe.trace import Trace

TOKENS = 400
"""Tokens of one window."""
_CELLS = 6_400
"""Tokens × layers at most, so that the HTML stays below a megabyte."""


def one_document(trace: Trace, number: int) -> Trace:
    """Return a document as a trace of its own, without attention, which no strip draws."""
    return replace(trace, attention_record=None).select([number])


def strip(trace: Trace, number: int, identity: str) -> str:
    """Return the first tokens of a document, coloured by first choice at any layer.

    Args:
        trace: the trace.
        number: of the document.
        identity: of the element around it, for the style that shows the chosen layer.
    """
    document, layers = one_document(trace, number), trace.layers
    window = TokenRange(0, min(len(document), TOKENS, max(50, _CELLS // len(layers))))
    table = routes(document)
    drawn = [by_expert(document, table, window, layer=layer, row=row, rank=0) for row, layer in enumerate(layers)]
    tokens = [_token(layers, by_layer) for by_layer in zip(*drawn, strict=True)]
    more = f"the first {window.stop:,} of " if window.stop < len(document) else ""
    where = f"Document {number} of {trace.num_documents:,}" if trace.num_documents > 1 else "The text"
    note = f"{where}, {more}{len(document):,} tokens: coloured by first choice, as strong as its weight."
    return (
        f"{_choice(layers, identity)}\n"
        f'<div class="strip" dir="auto">{"".join(tokens)}</div>\n<p class="note">{text(note)}</p>'
    )


def _choice(layers: Sequence[int], identity: str) -> str:
    """Return radio buttons, and the rules by which they colour the tokens."""
    rules = "\n".join(
        f'#{identity}:has(.layers [value="{i}"]:checked) .token '
        f"{{ --color: var(--c{i}, transparent); --strength: var(--s{i}, 0%); }}"
        for i in range(len(layers))
    )
    buttons = "".join(
        f'<label><input type="radio" name="{identity}" value="{i}"{" checked" if i == 0 else ""}> {layer}</label>'
        for i, layer in enumerate(layers)
    )
    return f'<style>{rules}</style>\n<fieldset class="layers"><legend>Layer</legend>{buttons}</fieldset>'


def _token(layers: Sequence[int], by_layer: Sequence[Token]) -> str:
    """Return one token, with its colour in every layer and all its choices as a hover."""
    token = by_layer[0]
    colors = [f"--c{i}:{part.color};--s{i}:{part.strength:.0%}" for i, part in enumerate(by_layer) if part.color]
    facts = [
        f"{layer}: {'; '.join(f'{name} {value}' for name, value in part.facts)}"
        for layer, part in zip(layers, by_layer, strict=True)
    ]
    pieces = parts(token.text)
    hover = "".join(part for part, _ in pieces)[:80] + "\n" + "\n".join(f"layer {line}" for line in facts)
    kind = "token special" if token.special else "token"
    return (
        f'<span class="{kind}" dir="auto" title="{text(hover)}" style="{";".join(colors)}">'
        f"{''.join(_part(*part) for part in pieces)}</span>"
        + ("<br>" if pieces and pieces[-1][1] == BREAK else "<wbr>")
    )


def _part(piece: str, kind: int) -> str:
    return f'<i class="glyph">{text(piece)}</i>' if kind in (GLYPH, BREAK) else text(piece)
