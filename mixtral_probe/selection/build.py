"""Conversion of the parser's tree to nodes, with the checks that the grammar cannot express."""

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mixtral_probe.selection import nodes
from mixtral_probe.selection.errors import Place, SelectionError

DEEPEST = 50
"""Levels of `not`, brackets and slices in an expression."""
WRITTEN_OUT = 40_000
"""Characters of an expression with the text of each slice in the place of its name."""


@dataclass(frozen=True)
class Built:
    """The node of a text, and what it adds to an expression that uses it."""

    node: nodes.Node
    levels: int
    """Levels of the node and of the slices in it."""
    length: int
    """Characters of the text with its slices written out."""


class Slices:
    """What `@name` means; each text is parsed once, at its first use."""

    def __init__(self, texts: Mapping[str, str], tree_of: Callable[[str], Any]) -> None:
        """Keep the texts.

        Args:
            texts: name → expression, which may use the names before it.
            tree_of: the parser.
        """
        self.texts, self.tree_of = dict(texts), tree_of
        self._place = {name: place for place, name in enumerate(self.texts)}
        self._built: dict[str, Built] = {}

    def known_in(self, reader: str | None) -> list[str]:
        """List the names that a slice may use; None stands for the expression itself, which may use all."""
        return list(self.texts)[: None if reader is None else self._place[reader]]

    def may_use(self, reader: str | None, name: str) -> bool:
        """Return whether a slice, or with None the expression itself, may use a name."""
        return name in self._place and (reader is None or self._place[name] < self._place[reader])

    def of(self, name: str) -> Built:
        """Return the slice of a name.

        Raises:
            SelectionError: its text breaks the grammar.
        """
        if name not in self._built:
            self._built[name] = self.build(self.texts[name], name)
        return self._built[name]

    def build(self, text: str, name: str | None = None) -> Built:
        """Return the node of a text, which is that of the slice `name` or the expression itself."""
        builder = Builder(text, self, name)
        node = builder.build(self.tree_of(text))
        return Built(node, builder.levels, builder.length)


class Builder:
    """Builds the nodes of one text."""

    def __init__(self, text: str, slices: Slices, name: str | None = None) -> None:
        """Build nodes for one text.

        Args:
            text: the expression.
            slices: what `@name` means.
            name: of the slice that the text is; None for the expression itself.
        """
        self.text, self.slices, self.name = text, slices, name
        self.depth = self.levels = 0
        self.length = len(text)

    def build(self, tree: Any) -> nodes.Node:
        """Return the node of a tree and of all below it."""
        self.depth += 1
        self._reach(self.depth, tree)
        node: nodes.Node = getattr(self, f"_{tree.data}")(*tree.children)
        self.depth -= 1
        return node

    def _reach(self, level: int, at: Any) -> None:
        self.levels = max(self.levels, level)
        if level > DEEPEST:
            raise self.error(f"an expression nests at most {DEEPEST} levels deep, got more", at)

    def error(self, sentence: str, at: Any) -> SelectionError:
        """Return the error at a tree or token."""
        return SelectionError(sentence, self.text, _place(at))

    def _either(self, *parts: Any) -> nodes.Or:
        return nodes.Or(tuple(self.build(part) for part in parts))

    def _both(self, *parts: Any) -> nodes.And:
        return nodes.And(tuple(self.build(part) for part in parts))

    def _negated(self, part: Any) -> nodes.Not:
        return nodes.Not(self.build(part))

    def _compare(self, name: Any, operator: Any, value: Any) -> nodes.Compare:
        operand = self._value(value)
        if operator[0] in "<>" and isinstance(operand.value, str | bool):
            raise self.error(f"{operator} compares numbers, got {operand}; use == or in", value)
        return nodes.Compare(self._name(name), str(operator), operand)  # type: ignore[arg-type]

    def _within(self, name: Any, items: Any) -> nodes.Within:
        return nodes.Within(self._name(name), tuple(self._item(item) for item in items.children))

    def _outside(self, name: Any, items: Any) -> nodes.Not:
        return nodes.Not(self._within(name, items))

    def _matches(self, name: Any, operator: Any, value: Any) -> nodes.Matches:
        operand = self._value(value)
        if not isinstance(operand.value, str):
            raise self.error(f"{operator} takes a text in quotes, got {operand}", value)
        return nodes.Matches(self._name(name), str(operator), operand)  # type: ignore[arg-type]

    def _missing(self, name: Any) -> nodes.Missing:
        return nodes.Missing(self._name(name))

    def _holds(self, name: Any) -> nodes.Holds:
        return nodes.Holds(self._name(name))

    def _slice(self, token: Any) -> nodes.Slice:
        name = str(token)[1:]
        if not self.slices.may_use(self.name, name):
            raise self._unknown_slice(name, token)
        try:
            built = self.slices.of(name)
        except SelectionError as error:
            text = self.slices.texts[name]
            text = text if len(text) <= 80 else f"{text[:80]} …"
            raise self.error(f"@{name} stands for {text!r}, in which {error.sentence}", token) from None
        self._reach(self.depth + built.levels, token)
        self._lengthen(built.length, token)
        return nodes.Slice(name, built.node, _place(token))

    def _lengthen(self, length: int, token: Any) -> None:
        self.length += length
        if self.length > WRITTEN_OUT:
            raise self.error(
                f"an expression has at most {WRITTEN_OUT:,} characters with its slices written out, got more", token
            )

    def _unknown_slice(self, name: str, token: Any) -> SelectionError:
        known = self.slices.known_in(self.name)
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean @{near[0]}?" if near else f"there are {', '.join(f'@{other}' for other in known)}"
        return self.error(f"@{name} names no slice; {hint}", token)

    def _name(self, tree: Any) -> nodes.Name:
        name, *index = tree.children
        value = self._scalar(index[0]) if index else None
        if isinstance(value, float):
            raise self.error(f"an index is a whole number or a text, got {value!r}", index[0])
        return nodes.Name(str(name), value, _place(tree))

    def _item(self, tree: Any) -> nodes.Value | nodes.Range:
        if tree.data == "value":
            return self._value(tree)
        ends = [self._value(end) for end in tree.children]
        for end, at in zip(ends, tree.children, strict=True):
            if isinstance(end.value, str | bool):
                raise self.error(f"a range goes between numbers, got {end}", at)
        low = None if tree.data == "downward" else ends[0]
        high = None if tree.data == "upward" else ends[-1]
        if low is not None and high is not None and low.number > high.number:
            raise self.error(f"a range goes upward, got {low}..{high}; write {high}..{low}", tree)
        return nodes.Range(low, high)

    def _value(self, tree: Any) -> nodes.Value:
        return nodes.Value(self._scalar(tree.children[0]), _place(tree))

    def _scalar(self, token: Any) -> Any:
        if token.type == "NUMBER":
            return self._number(token)
        if token.type == "STRING":
            return self._string(token)
        return token == "true"

    def _number(self, token: Any) -> int | float:
        value = int(token) if token.lstrip("-").isdigit() else float(token)
        if abs(value) > 1e300:
            raise self.error("a number must be between -1e300 and 1e300, got one beyond", token)
        return value

    def _string(self, token: Any) -> str:
        body = token[1:-1] if token[0] == '"' else token[1:-1].replace(r"\'", "'").replace('"', r"\"")
        try:
            return str(json.loads(f'"{body}"', strict=False))
        except ValueError:
            raise self.error(r"a backslash in a text must be written \\, got another one", token) from None


def _place(at: Any) -> Place:
    meta = getattr(at, "meta", at)
    return Place(meta.start_pos, meta.end_pos)
