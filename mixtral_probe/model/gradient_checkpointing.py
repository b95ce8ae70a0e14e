"""Gradient checkpointing: a layer keeps only its input, and runs again for its gradient.

Chen et al. 2016, arXiv 1604.06174, in torch's non-reentrant form, where a value that leaves a layer beside its output,
such as router logits for the balance loss, still has its gradient.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mixtral_probe.errors import InputError
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.hooks import Hooks, WrappedHooks
from mixtral_probe.model.sites import Site

_UNCHANGED = object()
_ARGUMENTS = ("preserve_rng_state", "determinism_check", "debug")


@dataclass(frozen=True)
class Checkpointing:
    """Which layers run again, and the arguments of torch's ``checkpoint``."""

    arguments: Mapping[str, Any]
    every_n_layers: int = 1

    @classmethod
    def of(cls, arguments: Mapping[str, Any] | None, every_n_layers: int) -> Self:
        """Check the arguments of ``activation_checkpointing_enable``."""
        chosen = {name: value for name, value in (arguments or {}).items() if name != "use_reentrant"}
        for name in chosen:
            if name not in _ARGUMENTS:
                raise InputError(
                    f"gradient checkpointing takes use_reentrant, {', '.join(_ARGUMENTS)}, got {name!r}; leave it out"
                )
        if every_n_layers < 1:
            raise InputError(f"every_n_layers must be at least 1, got {every_n_layers}")
        return cls(chosen, every_n_layers)

    def run(self, layer: nn.Module, index: int, hidden: Tensor, context: ForwardContext, hooks: Hooks) -> Tensor:
        """``layer(hidden, context, hooks)``, keeping only its input; instruments are visited in the first run only."""
        if index % self.every_n_layers:
            return layer(hidden, context, hooks)
        runs = _Runs(hooks)
        out: Tensor = checkpoint(
            lambda x: layer(x, context, runs.next()), hidden, use_reentrant=False, **self.arguments
        )
        return out


class _Runs:
    """Hooks of the runs of a layer: the first visits instruments and records, each later one replays."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._visited: list[Any] | None = None

    def next(self) -> Hooks:
        if self._visited is None:
            self._visited = []
            return _RecordingHooks(self._hooks, self._visited)
        return _ReplayingHooks(self._hooks, self._visited)


class _RecordingHooks(WrappedHooks):
    """Visits instruments, and records the values they changed."""

    __slots__ = ("_visited",)

    def __init__(self, hooks: Hooks, visited: list[Any]) -> None:
        super().__init__(hooks)
        self._visited = visited

    def visit(self, site: Site, value: Any) -> Any:
        if not self.wants(site):
            return value
        before = _versions(value)
        with saved_tensors_hooks(_identity, _identity):  # operations of an edit are not run again
            changed = super().visit(site, value)
        same = changed is value and before == _versions(value)
        self._visited.append(_UNCHANGED if same else _mapped(changed, _detached))
        return changed


class _ReplayingHooks(WrappedHooks):
    """Returns the recorded values in their order, without visiting instruments."""

    __slots__ = ("_visited",)

    def __init__(self, hooks: Hooks, visited: list[Any]) -> None:
        super().__init__(hooks)
        self._timers = ()
        self._visited = iter(visited)

    def visit(self, site: Site, value: Any) -> Any:
        if not self.wants(site):
            return value
        recorded = next(self._visited)
        return value if recorded is _UNCHANGED else recorded


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _detached(tensor: Tensor) -> Tensor:
    """A copy without its graph, which refers to this record; its users must save the same tensors again."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value


def _versions(value: Any) -> list[int]:
    """The number of in-place writes to each tensor."""
    versions: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        versions.append(tensor._version)
        return tensor

    _mapped(value, count)
    return versions


def refuse_cache(cache: object | None) -> None:
    """Raise InputError if there is a cache, which a second run would fill again."""
    if cache is not None:
        raise InputError(
            "gradient checkpointing runs each layer twice and must not have a cache, got one; "
            "leave past_key_values and use_cache out or call gradient_checkpointing_disable()"
        )
