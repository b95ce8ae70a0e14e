"""Conversion of the parser's tree to nodes, with the checks that the grammar cannot express."""

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any

from mixtral_probe.selection import nodes
from mixtral_probe.selection.errors import Place, SelectionError

DEEPEST = 50
"""Levels of `not`, brackets and slices in an expression."""


class Builder:
    """Builds the nodes of one text."""

    def __init__(self, text: str, slices: Mapping[str, str], tree_of: Callable[[str], Any], depth: int = 0) -> None:
        """Build nodes for one text.

        Args:
            text: the expression.
            slices: what `@name` means.
            tree_of: the parser, for the slices.
            depth: levels above this text.
        """
        self.text, self.slices, self.tree_of, self.depth = text, slices, tree_of, depth

    def build(self, tree: Any) -> nodes.Node:
        """Return the node of a tree and of all below it."""
        if self.depth > DEEPEST:
            raise self.error(f"an expression nests at most {DEEPEST} levels deep, got more", tree)
        self.depth += 1
        node: nodes.Node = getattr(self, f"_{tree.data}")(*tree.children)
        self.depth -= 1
        return node

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
        if name not in self.slices:
            near = difflib.get_close_matches(name, self.slices, 1)
            hint = (
                f"did you mean @{near[0]}?" if near else f"there are {', '.join(f'@{known}' for known in self.slices)}"
            )
            raise self.error(f"@{name} names no slice; {hint}", token)
        text, names = self.slices[name], list(self.slices)
        before = {earlier: self.slices[earlier] for earlier in names[: names.index(name)]}
        try:
            inner = Builder(text, before, self.tree_of, self.depth)
            return nodes.Slice(name, inner.build(self.tree_of(text)), _place(token))
        except SelectionError as error:
            raise self.error(f"@{name} stands for {text!r}, in which {error.sentence}", token) from None

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
