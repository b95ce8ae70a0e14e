"""The mask of an expression on a trace: which token counts in which layer."""

import difflib
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.selection import nodes
from mixtral_probe.selection.errors import SelectionError
from mixtral_probe.selection.fields import FIELDS, Field, label_field
from mixtral_probe.selection.parse import Expression, parse
from mixtral_probe.selection.rows import NeedsError, Rows
from mixtral_probe.trace import Trace

Mask = NDArray[np.bool_]
_SLICE_ELEMENTS = 2**23
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


def mask(trace: Trace, where: str | Expression, slices: Mapping[str, str] | None = None) -> Mask:
    """[L, T] True where a token in a layer is selected.

    A comparison with what is missing does not hold. `expert == 3` holds where expert 3 is among the chosen.

    Args:
        trace: the trace, read in slices.
        where: an expression.
        slices: what `@name` means in it, in addition to `SLICES`.

    Raises:
        SelectionError: it breaks the grammar, or names what the trace lacks.
    """
    expression = parse(where, slices) if isinstance(where, str) else where
    return np.concatenate([_Evaluation(expression.text, rows).of(expression.root) for rows in _parts(trace)], axis=1)


def _parts(trace: Trace) -> Iterator[Rows]:
    step = max(1, _SLICE_ELEMENTS // (trace.num_layers * trace.num_experts_per_tok * trace.num_experts))
    for start in range(0, max(len(trace), 1), step):
        yield Rows(trace, slice(start, start + step))


class _Evaluation:
    """One expression on some rows."""

    def __init__(self, text: str, rows: Rows) -> None:
        self.text, self.rows = text, rows
        self.shape = (rows.trace.num_layers, len(rows.tokens))
        self._of_slices: dict[str, Mask] = {}

    def of(self, node: nodes.Node) -> Mask:
        """[L, n]"""
        if isinstance(node, nodes.And):
            return reduce(operator.and_, map(self.of, node.parts))
        if isinstance(node, nodes.Or):
            return reduce(operator.or_, map(self.of, node.parts))
        if isinstance(node, nodes.Not):
            return ~self.of(node.part)
        if isinstance(node, nodes.Slice):
            return self._slice(node)
        if isinstance(node, nodes.Compare) and node.operator == "!=":
            return ~self.of(nodes.Compare(node.name, "==", node.value))
        return np.broadcast_to(self._test(node), self.shape)

    def _slice(self, node: nodes.Slice) -> Mask:
        try:
            if node.name not in self._of_slices:
                self._of_slices[node.name] = self.of(node.body)
            return self._of_slices[node.name]
        except SelectionError as error:
            sentence = f"@{node.name} stands for {str(node.body)!r}, in which {error.sentence}"
            raise SelectionError(sentence, self.text, node.place) from None

    def _test(self, node: Any) -> Mask:
        field = self._field(node.name)
        self._check(node, field)
        values = self._values(node.name, field)
        if field.kind == "text":
            return (values.codes < 0)[None] if isinstance(node, nodes.Missing) else values.test(_text_test(node))[None]
        if field.kind != "experts":
            return np.isnan(values) if isinstance(node, nodes.Missing) else _number_test(node, values)
        if isinstance(node, nodes.Missing):
            return np.asarray(np.isnan(values).all(-1))
        return np.asarray(_number_test(node, values).any(-1))

    def _field(self, name: nodes.Name) -> Field:
        documents, labels = self.rows.trace.documents, self.rows.trace.labels
        if name.text in FIELDS:
            return FIELDS[name.text]
        label = str(name.index) if name.text == "label" and name.index is not None else name.text.removeprefix("label.")
        if label in labels:
            return label_field(documents, label)
        known = [*FIELDS, *labels]
        near = difflib.get_close_matches(name.text, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise self._error(f"{name} is no name that this trace knows; {hint}", name)

    def _values(self, name: nodes.Name, field: Field) -> Any:
        try:
            if name.index is None or name.text == "label":
                return field.values(self.rows)
            return field.values(self.rows, name.index)
        except NeedsError as error:
            raise self._error(f"{name} needs {error}, which this trace lacks", name) from None

    def _check(self, node: Any, field: Field) -> None:
        """Check that the name can be indexed and compared as it is."""
        self._check_index(node.name, field)
        name, kind = node.name, field.kind
        if isinstance(node, nodes.Holds) and kind != "truth":
            example = f"{name} {_EXAMPLE[kind]}"
            raise self._error(f"{name} is not true or false by itself; compare it, as in {example}", name)
        if isinstance(node, nodes.Within | nodes.Matches) and kind == "truth":
            raise self._error(f"{name} is true or false, so it stands alone, as in {name} or not {name}", name)
        if isinstance(node, nodes.Matches) and kind != "text":
            raise self._error(f"{node.operator} searches texts, got {name}, which is a number", name)
        for value in _values_of(node):
            if not isinstance(value.value, _TYPES[kind]) or isinstance(value.value, bool) != (kind == "truth"):
                raise self._error(f"{name} is compared with {_KIND[kind]}, got {value}", value)

    def _check_index(self, name: nodes.Name, field: Field) -> None:
        if name.text == "label":
            return
        if name.index is None:
            if field.needs_index:
                raise self._error(f"{name} needs an index, as in {name}[0]", name)
            return
        index = nodes.spelled(name.index)
        if not field.index:
            raise self._error(f"{name.text} takes no index, got [{index}]", name)
        trace = self.rows.trace
        size = trace.num_experts if field.index == "expert" else trace.num_experts_per_tok
        if not isinstance(name.index, int) or not 0 <= name.index < size:
            raise self._error(f"{field.index} must be in 0–{size - 1}, got {index}", name)

    def _error(self, sentence: str, at: nodes.Name | nodes.Value) -> SelectionError:
        return SelectionError(sentence, self.text, at.place)


_EXAMPLE = {"number": "> 0", "experts": "== 0", "text": '== "…"'}
_TYPES: dict[str, Any] = {"number": int | float, "experts": int | float, "text": str, "truth": bool}
_KIND = {"number": "a number", "experts": "a number", "text": "a text in quotes", "truth": "true or false"}


def _values_of(node: Any) -> Iterator[nodes.Value]:
    for item in getattr(node, "items", ()) or ([node.value] if hasattr(node, "value") else []):
        if isinstance(item, nodes.Range):
            yield from (end for end in (item.low, item.high) if end is not None)
        else:
            yield item


def _text_test(node: nodes.Compare | nodes.Within | nodes.Matches) -> Callable[[str], bool]:
    if isinstance(node, nodes.Within):
        texts = {item.value for item in node.items if isinstance(item, nodes.Value)}
        return lambda text: text in texts
    value = str(node.value.value)
    if isinstance(node, nodes.Compare):
        return lambda text: text == value
    return lambda text: _TEXT[node.operator](text, value)


def _number_test(node: nodes.Compare | nodes.Within | nodes.Holds, values: NDArray[np.float64]) -> Mask:
    if isinstance(node, nodes.Holds):
        return np.equal(values, 1)
    if isinstance(node, nodes.Compare):
        return _COMPARE[node.operator](values, node.value.number)
    return reduce(operator.or_, (_in_item(values, item) for item in node.items))


def _in_item(values: NDArray[np.float64], item: nodes.Value | nodes.Range) -> Mask:
    if isinstance(item, nodes.Value):
        return values == item.number
    inside = ~np.isnan(values)
    if item.low is not None:
        inside &= values >= item.low.number
    if item.high is not None:
        inside &= values <= item.high.number
    return inside
