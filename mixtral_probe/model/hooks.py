"""The instruments of one forward call, resolved by layer and site."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.sites import Instrument, Site

_UNTIMED = nullcontext()


def require_fit(instruments: Iterable[Instrument], config: MixtralConfig) -> None:
    """Raise InputError unless all are instruments and fit a model of this config."""
    for instrument in instruments:
        if not isinstance(instrument, Instrument):
            raise InputError(
                f"an instrument must be a subclass of mixtral_probe.Instrument, got a {type(instrument).__name__}; "
                "derive its class from it"
            )
        instrument.check(config)


def timers(instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """Those of the instruments that override ``span``."""
    return tuple(instrument for instrument in instruments if type(instrument).span is not Instrument.span)


def span(
    timed_by: Sequence[Instrument], site: Site, layer: int, expert: int | None = None
) -> AbstractContextManager[Any]:
    """The spans of all timers at a site; nothing where there is no timer."""
    if not timed_by:
        return _UNTIMED
    if len(timed_by) == 1:
        return timed_by[0].span(site, layer, expert)
    stack = ExitStack()
    for timer in timed_by:
        stack.enter_context(timer.span(site, layer, expert))
    return stack


def separates_experts(instruments: Iterable[Instrument], layer: int) -> bool:
    """Return whether an instrument wants the experts of a layer one by one."""
    instruments = tuple(instruments)
    return bool(timers(instruments)) or any(i.wants(Site.EXPERT_OUTPUT, layer) for i in instruments)


class Hooks:
    """The instruments of one layer in one call, by site."""

    __slots__ = ("_by_site", "_timers", "context", "layer", "separates_experts")

    def __init__(self, instruments: Iterable[Instrument], layer: int, context: ForwardContext) -> None:
        instruments = tuple(instruments)
        self.layer, self.context, self._timers = layer, context, timers(instruments)
        self._by_site: dict[Site, list[Instrument]] = {}
        for instrument in instruments:
            for site in Site:
                if instrument.wants(site, layer):
                    self._by_site.setdefault(site, []).append(instrument)
        self.separates_experts = separates_experts(instruments, layer)
        """Whether an instrument wants the experts one after the other."""

    def visit(self, site: Site, value: Any) -> Any:
        """Pass a value through the instruments that want its site, in order; returns the last one's."""
        for instrument in self._by_site.get(site, ()):
            value = instrument.visit(site, self.layer, value, self.context)
        return value

    def run(self, site: Site, function: Callable[..., Any], *arguments: Any) -> Any:
        """Compute the value of a site, ``function(*arguments)``, inside its span, and visit it."""
        if not self._timers:
            return self.visit(site, function(*arguments))
        with self.span(site):
            value = function(*arguments)
        return self.visit(site, value)

    def span(self, site: Site, expert: int | None = None) -> AbstractContextManager[Any]:
        """A context to be open while the value of this site is computed."""
        return span(self._timers, site, self.layer, expert)

    def wants(self, site: Site) -> bool:
        """Whether any instrument wants this site."""
        return site in self._by_site

    def edits_attention(self) -> bool:
        """Whether an instrument may change the attention weights, so that the output must be computed from them."""
        return any(instrument.edits_attention for instrument in self._by_site.get(Site.ATTENTION_WEIGHTS, ()))

    def heads(self, num_heads: int) -> Sequence[int]:
        """The heads whose attention weights any instrument wants, ascending."""
        wanted: set[int] = set()
        for instrument in self._by_site.get(Site.ATTENTION_WEIGHTS, ()):
            heads = instrument.heads(self.layer)
            wanted.update(range(num_heads) if heads is None else heads)
        return sorted(wanted)


class WrappedHooks(Hooks):
    """A base class for hooks that visit in another way than those they wrap."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Hooks) -> None:
        self._inner, self.layer, self.context = inner, inner.layer, inner.context
        self._by_site, self._timers = inner._by_site, inner._timers
        self.separates_experts = inner.separates_experts

    def visit(self, site: Site, value: Any) -> Any:
        """Visit as the inner hooks do."""
        return self._inner.visit(site, value)
