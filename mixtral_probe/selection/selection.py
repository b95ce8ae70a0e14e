"""The selection: traces, documents, tokens, layers and experts, and its form as the query of an address."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.selection.mask import mask
from mixtral_probe.selection.named import SLICES
from mixtral_probe.selection.narrow import select
from mixtral_probe.selection.nodes import expanded
from mixtral_probe.selection.numbers import EVERY, Numbers
from mixtral_probe.selection.parse import parse, parse_with, slices_of
from mixtral_probe.trace import Trace

_NAMES = {"documents": "document", "tokens": "token.number", "layers": "layer", "experts": "expert"}
"""The fields that restrict rows of a trace, and their names in the language."""
_PARAMETERS = {"traces": "trace", "documents": "document", "tokens": "token", "layers": "layer"}
_PARAMETERS |= {"experts": "expert", "heads": "head", "where": "where", "slices": "slice"}
MOST_SLICES = 100
"""Further slices of a selection."""


@dataclass(frozen=True)
class Selection:
    """A selection. An empty field stands for everything.

    `to_query` and `from_query` convert it to the query of an address and back; the address of a dashboard is one.
    """

    traces: tuple[str, ...] = ()
    """Their names."""
    documents: Numbers = EVERY
    """Numbers in the trace."""
    tokens: Numbers = EVERY
    """Places in their document."""
    layers: Numbers = EVERY
    """As the model numbers them."""
    experts: Numbers = EVERY
    """A token counts where one of these is among its chosen."""
    heads: Numbers = EVERY
    """Attention heads; they do not restrict rows."""
    where: str = ""
    """An expression, in its canonical spelling."""
    slices: tuple[tuple[str, str], ...] = ()
    """Name and expression of further slices, each of which may use those before it."""

    def __post_init__(self) -> None:
        if len(self.slices) > MOST_SLICES:
            raise InputError(f"a selection has at most {MOST_SLICES} slices, got {len(self.slices)}; leave some out")
        known = slices_of(dict(self.slices))
        for name, _ in self.slices:
            if not name.isidentifier():
                raise InputError(f"a slice's name is a word, got {name!r}")
            known.of(name)
        object.__setattr__(self, "where", str(parse_with(known, self.where)) if self.where.strip() else "")
        if self.expression:
            parse(self.expression)  # written out, it may be too long

    @cached_property
    def expression(self) -> str:
        """All restrictions of rows as one expression without further slices; empty where there are none."""
        parts = [getattr(self, field).test(name) for field, name in _NAMES.items() if getattr(self, field)]
        if self.where:
            where = str(expanded(parse(self.where, dict(self.slices)).root, SLICES))
            parts.append(f"({where})" if parts else where)
        return " and ".join(parts)

    def mask(self, trace: Trace) -> NDArray[np.bool_]:
        """[L, T] True where a token in a layer is selected.

        Raises:
            SelectionError: the expression names what the trace lacks.
        """
        if not self.expression:
            return np.ones((trace.num_layers, len(trace)), dtype=bool)
        return mask(trace, self.expression)

    def select(self, trace: Trace) -> Trace:
        """Return the trace without experts wherever a token in a layer is not selected; see `mixtral_probe.select`.

        Raises:
            SelectionError: the expression names what the trace lacks.
        """
        return select(trace, self.expression) if self.expression else trace

    def to_query(self) -> str:
        """Return the query of an address, such as `layer=8..15&where=token.is_digit`; empty for everything."""
        pairs = [(_PARAMETERS["traces"], name) for name in self.traces]
        numbers = [field.name for field in fields(self) if isinstance(getattr(self, field.name), Numbers)]
        pairs += [(_PARAMETERS[name], str(getattr(self, name))) for name in numbers if getattr(self, name)]
        pairs += [(_PARAMETERS["slices"], f"{name}:{text}") for name, text in self.slices]
        pairs += [("where", self.where)] if self.where else []
        return urlencode(pairs, errors="surrogatepass")

    @classmethod
    def from_query(cls, query: str | Mapping[str, str | list[str]]) -> "Selection":
        """Read the selection in an address or its query; other parameters are ignored.

        Raises:
            InputError: a parameter cannot be read.
        """
        parameters = _parameters(query)
        numbers = {
            field.name: Numbers.parse(",".join(parameters.get(_PARAMETERS[field.name], [])))
            for field in fields(cls)
            if isinstance(field.default, Numbers)
        }
        slices = [text.partition(":")[::2] for text in parameters.get("slice", [])]
        texts = parameters.get("where", [])
        where = " and ".join(f"({text})" if len(texts) > 1 else text for text in texts)
        return cls(traces=tuple(parameters.get("trace", [])), where=where, slices=tuple(slices), **numbers)


def _parameters(query: str | Mapping[str, str | list[str]]) -> dict[str, list[str]]:
    if isinstance(query, str):
        pairs = _pairs(query)
    else:
        lists = {name: [value] if isinstance(value, str) else value for name, value in query.items()}
        pairs = [(name, text) for name, texts in lists.items() for text in texts]
    parameters: dict[str, list[str]] = {}
    for name, text in pairs:
        parameters.setdefault(name, []).append(text)
    return parameters


def _pairs(address: str) -> list[tuple[str, str]]:
    try:
        text = urlsplit(address).query if "?" in address else address
        return parse_qsl(text, keep_blank_values=True, errors="surrogatepass")
    except ValueError as error:
        raise InputError(
            f"an address must spell its texts in UTF-8 with percent signs, got an error: {error}; copy the link again"
        ) from None
