"""Parsing of expressions by a grammar; errors name their place, and nothing is ever evaluated as code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mixtral_probe.selection import nodes
from mixtral_probe.selection.build import Slices
from mixtral_probe.selection.errors import Place, SelectionError
from mixtral_probe.selection.named import SLICES
from mixtral_probe.selection.nodes import spelled

if TYPE_CHECKING:
    from lark import Lark

LONGEST = 4_000
"""Characters of an expression."""
GRAMMAR = r"""
start: either
?either: both ("or" both)*
?both: negation ("and" negation)*
?negation: "not" negation -> negated
         | test
         | "(" either ")"
test: name OPERATOR value -> compare
    | name "in" items -> within
    | name "not" "in" items -> outside
    | name (CONTAINS | STARTSWITH | ENDSWITH) value -> matches
    | name "is" "missing" -> missing
    | name -> holds
    | SLICE -> slice
name: NAME ["[" (NUMBER | STRING) "]"]
items: item | "{" item ("," item)* [","] "}"
?item: value | range
range: value ".." value -> closed
     | value ".." -> upward
     | ".." value -> downward
value: NUMBER | STRING | TRUE | FALSE

OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">"
CONTAINS: "contains"
STARTSWITH: "startswith"
ENDSWITH: "endswith"
TRUE: "true"
FALSE: "false"
NAME: /[^\W\d]\w*(\.[^\W\d]\w*)?/
SLICE: /@[^\W\d]\w*/
NUMBER: /-?\d+(\.\d+)?([eE][-+]?\d+)?/
STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/
%ignore /\s+/
"""
_WORDS = {
    "NAME": "a name such as layer or token.is_digit",
    "SLICE": "a name such as layer or token.is_digit",
    "NUMBER": "a value",
    "STRING": "a value",
    "TRUE": "a value",
    "FALSE": "a value",
    "OPERATOR": "a comparison such as ==, in or contains",
    "IN": "a comparison such as ==, in or contains",
    "AND": "and, or",
    "OR": "and, or",
    "MISSING": "missing",
    "LBRACE": "{",
    "RBRACE": "}",
    "RSQB": "]",
    "RPAR": ")",
    "COMMA": "a comma",
    "$END": "the end",
}
"""The name of an expected terminal in errors; terminals without one are implied by the others."""
_INSTEAD = {"=": "write == to compare", "&": "write and", "|": "write or", "!": "write not, or !="}


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `str` gives its canonical spelling, which parses to an equal one."""

    root: nodes.Node
    text: str = field(default="", compare=False)
    """As typed."""

    def __str__(self) -> str:
        return str(self.root)


def parse(text: str, slices: Mapping[str, str] | None = None) -> Expression:
    """Read an expression such as `layer in 8..15 and token.is_digit and domain == "code"`.

    Args:
        text: the expression; see `docs/selection.md` for the language.
        slices: further named expressions that `@name` may mean, in addition to `SLICES`; each may use those before it.

    Raises:
        SelectionError: it breaks the grammar; the error has the place.
    """
    return parse_with(slices_of(slices), text)


def slices_of(slices: Mapping[str, str] | None) -> Slices:
    """Return what `@name` means, `SLICES` included, for several expressions."""
    return Slices(SLICES | dict(slices or {}), tree_of)


def parse_with(slices: Slices, text: str) -> Expression:
    """Read an expression as `parse` does."""
    return Expression(slices.build(text).node, text)


def tree_of(text: str) -> Any:
    """Return the tree of lark.

    Raises:
        SelectionError: the text breaks the grammar.
    """
    if not text.strip():
        raise SelectionError("an expression is needed, such as layer == 3, got none", text, Place(0, 1))
    if len(text) > LONGEST:
        place = Place(LONGEST, LONGEST + 1)
        raise SelectionError(f"an expression has at most {LONGEST:,} characters, got {len(text):,}", text, place)
    from lark import UnexpectedCharacters, UnexpectedToken

    try:
        return _parser().parse(text).children[0]
    except UnexpectedCharacters as error:
        raise _unknown(text, error.pos_in_stream or 0) from None
    except UnexpectedToken as error:
        raise _unexpected(text, error.token, error.accepts or error.expected) from None


@cache
def _parser() -> "Lark":
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", lexer="basic", maybe_placeholders=False, propagate_positions=True)


def _unknown(text: str, at: int) -> SelectionError:
    """Return the error of a character that begins no word or sign."""
    character = text[at]
    sentence = f"the language has no {spelled(character)}"
    if character in "\"'":
        sentence = f"the text that begins with {character} has no end"
    hint = f"; {_INSTEAD[character]}" if character in _INSTEAD else ""
    return SelectionError(f"{sentence}{hint}", text, Place(at, at + 1))


def _unexpected(text: str, token: Any, expected: Any) -> SelectionError:
    """Return the error of a word or sign where another is expected."""
    end = token.type == "$END"
    at = len(text.rstrip()) if end else token.start_pos
    place = Place(at, at + 1 if end else token.end_pos)
    words = list(dict.fromkeys(word for terminal, word in _WORDS.items() if terminal in expected))
    alternatives = " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return SelectionError(f"expected {alternatives}, got {spelled(token.value) if not end else 'nothing'}", text, place)
