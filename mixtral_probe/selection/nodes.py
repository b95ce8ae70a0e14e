"""An expression as a tree of frozen nodes; `str` of a node is its one canonical spelling."""

import json
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal

from mixtral_probe.selection.errors import Place

Scalar = int | float | str | bool
NOWHERE = Place(0, 0)
"""The place of a node that was not typed."""


def spelled(value: Scalar) -> str:
    """Return a value as the language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    plain = value.isprintable()
    return json.dumps(value, ensure_ascii=not plain)


@dataclass(frozen=True)
class Name:
    """A name: `layer`, `token.is_digit`, `choice[0]`, `label["my label"]`."""

    text: str
    index: int | str | None = None
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return self.text if self.index is None else f"{self.text}[{spelled(self.index)}]"


@dataclass(frozen=True)
class Value:
    """A number, a text, or true or false."""

    value: Scalar
    place: Place = field(default=NOWHERE, compare=False)

    @property
    def number(self) -> float:
        """The value of a number or of a truth (1, 0)."""
        return float(self.value)

    def __str__(self) -> str:
        return spelled(self.value)


@dataclass(frozen=True)
class Range:
    """`low..high`, both ends included; an end that is None is open."""

    low: Value | None
    high: Value | None

    def __str__(self) -> str:
        return f"{'' if self.low is None else self.low}..{'' if self.high is None else self.high}"


@dataclass(frozen=True)
class Compare:
    """`name == value` and the other comparisons."""

    name: Name
    operator: Literal["==", "!=", "<", "<=", ">", ">="]
    value: Value

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.value}"


@dataclass(frozen=True)
class Within:
    """`name in low..high`, `name in {1, 4..6}`."""

    name: Name
    items: tuple[Value | Range, ...]

    def __str__(self) -> str:
        texts = [str(item) for item in self.items]
        bare = len(texts) == 1 and isinstance(self.items[0], Range)
        return f"{self.name} in {texts[0] if bare else '{' + ', '.join(texts) + '}'}"


@dataclass(frozen=True)
class Matches:
    """`name contains "text"`, `startswith`, `endswith`."""

    name: Name
    operator: Literal["contains", "startswith", "endswith"]
    value: Value

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.value}"


@dataclass(frozen=True)
class Holds:
    """A name that is true or false by itself."""

    name: Name

    def __str__(self) -> str:
        return str(self.name)


@dataclass(frozen=True)
class Missing:
    """`name is missing`."""

    name: Name

    def __str__(self) -> str:
        return f"{self.name} is missing"


@dataclass(frozen=True)
class Slice:
    """`@name`: another expression under a name."""

    name: str
    body: "Node"
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"@{self.name}"


@dataclass(frozen=True)
class Not:
    """`not …`."""

    part: "Node"

    def __str__(self) -> str:
        return f"not {_bracketed(self.part, (And, Or))}"


@dataclass(frozen=True)
class And:
    """Two or more parts that all hold."""

    parts: tuple["Node", ...]

    def __str__(self) -> str:
        return " and ".join(_bracketed(part, (And, Or)) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """Two or more parts of which one holds."""

    parts: tuple["Node", ...]

    def __str__(self) -> str:
        return " or ".join(_bracketed(part, (Or,)) for part in self.parts)


Node = Compare | Within | Matches | Holds | Missing | Slice | Not | And | Or


def expanded(node: Node, keep: Container[str]) -> Node:
    """Return the same tree with every slice replaced by its expression, except those to keep."""
    if isinstance(node, Slice):
        return node if node.name in keep else expanded(node.body, keep)
    if isinstance(node, Not):
        return Not(expanded(node.part, keep))
    if isinstance(node, And | Or):
        return type(node)(tuple(expanded(part, keep) for part in node.parts))
    return node


def _bracketed(part: Node, kinds: tuple[type, ...]) -> str:
    return f"({part})" if isinstance(part, kinds) else str(part)
