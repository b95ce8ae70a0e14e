"""Where an instrument can look at, and change, a forward pass: the named sites and the protocol.

An instrument is handed to one call and forgotten after it; nothing is ever left on the model, so threads that share a
model do not see each other's instruments.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig

MODEL = -1
"""The ``layer`` of the sites that belong to no layer: ``embedding`` and ``logits``."""


class Site(StrEnum):
    """A named value of the forward pass. Sites of a layer are visited in this order."""

    EMBEDDING = "embedding"  # [B, S, C]
    ATTENTION_INPUT = "attention_input"  # [B, S, C], after the norm
    QUERY = "query"  # [B, H, S, D], rotated
    KEY = "key"  # [B, H_kv, S, D], rotated, before the cache
    VALUE = "value"  # [B, H_kv, S, D], before the cache
    ATTENTION_WEIGHTS = "attention_weights"  # AttentionSlice of [B, h, S, M]
    HEAD_OUTPUT = "head_output"  # [B, S, H, D], before o_proj
    ATTENTION_OUTPUT = "attention_output"  # [B, S, C]
    ROUTER_INPUT = "router_input"  # [B, S, C], after the norm; the experts see it too
    ROUTER_LOGITS = "router_logits"  # [T, E], before top-k
    ROUTING = "routing"  # Routing, after top-k
    EXPERT_OUTPUT = "expert_output"  # ExpertSlice, before weighting
    MOE_OUTPUT = "moe_output"  # [B, S, C]
    RESIDUAL = "residual"  # [B, S, C], the layer's output
    LOGITS = "logits"  # [B, kept, V]


@dataclass(frozen=True, slots=True)
class Routing:
    """Which experts take a row, strongest first, and how much each counts."""

    expert_ids: Tensor
    """[T, K] int64; −1 where an edit gave a row fewer than K."""
    weights: Tensor
    """[T, K], float32 unless ``routing_weight_dtype`` says otherwise; each row sums to 1 unless an edit changed it."""
    logits: Tensor
    """[T, E] what the choice was made from, for an edit that chooses again."""


@dataclass(frozen=True, slots=True)
class ExpertSlice:
    """What one expert made of the rows it was given; an expert without rows gives an empty slice."""

    expert: int
    rows: Tensor
    """[n] int64, indices into the T rows of the call."""
    values: Tensor
    """[n, C], before the routing weight."""


@dataclass(frozen=True, slots=True)
class AttentionSlice:
    """The attention weights of some heads of a layer. A layer may be shown in several slices, to bound memory."""

    heads: tuple[int, ...]
    weights: Tensor
    """[B, len(heads), S, M], each row summing to 1."""

    def of(self, heads: Sequence[int]) -> Tensor:
        """The weights of some of its heads, a view where those are all."""
        if tuple(heads) == self.heads:
            return self.weights
        return self.weights[:, [self.heads.index(head) for head in heads]]


@dataclass(slots=True)
class Call:
    """What is common to one forward call: positions, masks, cache and phase."""

    positions: Tensor
    """[B or 1, S] int64."""
    rotary: tuple[Tensor, Tensor]
    """cos and sin, each [B or 1, S, D]."""
    mask: Tensor | None
    """[B or 1, 1, S, M] additive, or None where plain causal attention says it all."""
    valid: Tensor | None = None
    """[B, S] bool, False on padding; None when nothing is padded."""
    input_ids: Tensor | None = None
    """[B, S] int64; None where embeddings were given."""
    cache: Any = None
    phase: Literal["prefill", "decode"] = "prefill"
    step: int = 0
    """Forward calls made on this cache before this one."""
    buffers: dict[str, Tensor] = field(default_factory=dict)
    """Scratch memory shared by the layers of this call, only in inference mode."""

    def on(self, device: torch.device) -> "Call":
        """The same call with its tensors on another device."""
        if self.positions.device == device:
            return self
        cos, sin = self.rotary
        return replace(
            self,
            positions=self.positions.to(device),
            rotary=(cos.to(device), sin.to(device)),
            mask=None if self.mask is None else self.mask.to(device),
            valid=None if self.valid is None else self.valid.to(device),
            input_ids=None if self.input_ids is None else self.input_ids.to(device),
            buffers={},
        )

    def buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Scratch memory of ``shape``, reused from layer to layer; its content is undefined."""
        size = torch.Size(shape).numel()
        known = self.buffers.get(name)
        if known is None or known.numel() < size or known.dtype != like.dtype:
            known = self.buffers[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return known[:size].view(shape)


@runtime_checkable
class Instrument(Protocol):
    """What can be attached to one forward call.

    ``visit`` returns the value to be used onward: an observer returns what it was given. An instrument that changes
    ``attention_weights`` sets ``edits_attention = True``; one that needs only some heads there has a method
    ``heads(layer)`` that returns them; one that times has a method ``span(site, layer, expert)`` that returns a context
    to be open while the value of that site is made. One that fits some models only has a method ``check(config)``,
    called before each forward pass, that raises ``InputError`` for the others.
    """

    def wants(self, site: Site, layer: int) -> bool:
        """Whether ``visit`` is to be called at this site of this layer; asked once per call."""
        ...

    def visit(self, site: Site, layer: int, value: Any, call: Call) -> Any:
        """See the value, and return it or one of the same kind to be used in its place."""
        ...


def require_fit(instruments: Iterable[Instrument], config: MixtralConfig) -> None:
    """Let the instruments that fit some models only refuse this one."""
    for instrument in instruments:
        check = getattr(instrument, "check", None)
        if check is not None:
            check(config)


_UNTIMED = nullcontext()


def timers(instruments: Iterable[Instrument]) -> tuple[Any, ...]:
    """Those of the instruments that time."""
    return tuple(instrument for instrument in instruments if hasattr(instrument, "span"))


def span(timed_by: Sequence[Any], site: Site, layer: int, expert: int | None = None) -> AbstractContextManager[Any]:
    """What is open while the value of a site is made, nothing where nobody times.

    The span of ``residual`` is that of a whole layer, the span of ``expert_output`` one expert's product with its rows
    (gathering rows and adding up fall to ``moe_output``). The span of another site lies inside that of the value it
    serves.
    """
    if not timed_by:
        return _UNTIMED
    if len(timed_by) == 1:
        return timed_by[0].span(site, layer, expert)
    stack = ExitStack()
    for timer in timed_by:
        stack.enter_context(timer.span(site, layer, expert))
    return stack


class Visitors:
    """The instruments of one layer in one call, by site; calling it shows them a value in the order given."""

    __slots__ = ("_by_site", "_timers", "call", "layer")

    def __init__(self, instruments: Iterable[Instrument], layer: int, call: Call) -> None:
        self.layer, self.call = layer, call
        self._by_site: dict[Site, list[Instrument]] = {}
        instruments = tuple(instruments)
        self._timers = timers(instruments)
        for instrument in instruments:
            for site in Site:
                if instrument.wants(site, layer):
                    self._by_site.setdefault(site, []).append(instrument)

    def __call__(self, site: Site, value: Any) -> Any:
        """Show ``value`` to every instrument that wants this site; returns what is to be used onward."""
        for instrument in self._by_site.get(site, ()):
            value = instrument.visit(site, self.layer, value, self.call)
        return value

    def span(self, site: Site, expert: int | None = None) -> AbstractContextManager[Any]:
        """What is open while the value of this site is made; see ``span``."""
        return span(self._timers, site, self.layer, expert)

    def make(self, site: Site, function: Callable[..., Any], *arguments: Any) -> Any:
        """The value of a site, ``function(*arguments)``, made inside its span and shown; returns what to use onward."""
        if not self._timers:
            return self(site, function(*arguments))
        with self.span(site):
            value = function(*arguments)
        return self(site, value)

    def wants(self, site: Site) -> bool:
        """Whether anyone looks at this site."""
        return site in self._by_site

    def edits_attention(self) -> bool:
        """Whether the attention weights may come back changed, so the output has to be made from them."""
        return any(getattr(i, "edits_attention", False) for i in self._by_site.get(Site.ATTENTION_WEIGHTS, ()))

    def heads(self, num_heads: int) -> Sequence[int]:
        """The heads somebody wants to see, in ascending order."""
        wanted: set[int] = set()
        for instrument in self._by_site.get(Site.ATTENTION_WEIGHTS, ()):
            chosen = getattr(instrument, "heads", None)
            wanted.update(range(num_heads) if chosen is None else chosen(self.layer))
        return sorted(wanted)
