"""Gradient checkpointing: a layer keeps only its input, and runs again when its gradient is due.

Chen et al. 2016, arXiv 1604.06174, in torch's non-reentrant form, where what leaves a layer by another way than its
output, as router logits do for the balance loss, still has its gradient.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mixtral_probe.errors import InputError
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.hooks import Hooks, WrappedHooks
from mixtral_probe.model.sites import Site

_UNCHANGED = object()


def recomputed(layer: nn.Module, hidden: Tensor, context: ForwardContext, hooks: Hooks) -> Tensor:
    """``layer(hidden, call, hooks)`` without keeping what its gradient needs; instruments are visited once."""
    passes = _Passes(hooks)
    out: Tensor = checkpoint(lambda x: layer(x, context, passes.next()), hidden, use_reentrant=False)
    return out


class _Passes:
    """The first pass visits and notes what came back; each later one hands that out again."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._answers: list[Any] | None = None

    def next(self) -> Hooks:
        if self._answers is None:
            self._answers = []
            return _Noting(self._hooks, self._answers)
        return _Repeating(self._hooks, self._answers)


class _Noting(WrappedHooks):
    """Visits, and notes what instruments changed."""

    __slots__ = ("_answers",)

    def __init__(self, hooks: Hooks, answers: list[Any]) -> None:
        super().__init__(hooks)
        self._answers = answers

    def visit(self, site: Site, value: Any) -> Any:
        if not self.wants(site):
            return value
        before = _versions(value)
        with saved_tensors_hooks(_itself, _itself):  # an edit's own operations are not run again
            found = super().visit(site, value)
        same = found is value and before == _versions(value)
        self._answers.append(_UNCHANGED if same else _mapped(found, _cut_off))
        return found


class _Repeating(WrappedHooks):
    """Gives the noted answers in their order, without visiting anyone."""

    __slots__ = ("_answers",)

    def __init__(self, hooks: Hooks, answers: list[Any]) -> None:
        super().__init__(hooks)
        self._timers = ()
        self._answers = iter(answers)

    def visit(self, site: Site, value: Any) -> Any:
        if not self.wants(site):
            return value
        answer = next(self._answers)
        return value if answer is _UNCHANGED else answer


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _cut_off(tensor: Tensor) -> Tensor:
    """Without its graph, which holds this very note; what depends on it has to save the same as the first time."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value


def _versions(value: Any) -> list[int]:
    """How often each tensor was written to in place."""
    found: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor._version)
        return tensor

    _mapped(value, note)
    return found


def refuse_cache(cache: object | None) -> None:
    """Raise InputError if there is a cache, which running a layer twice would fill twice."""
    if cache is not None:
        raise InputError(
            "gradient checkpointing runs each layer twice and must not have a cache, got one; "
            "leave past_key_values and use_cache out or call gradient_checkpointing_disable()"
        )
