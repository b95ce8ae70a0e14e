"""What a forward call returns."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from torch.utils._pytree import register_pytree_node

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.context import ForwardContext

ByLayer = tuple[Tensor | None, ...]
"""One entry per layer; None for a layer that is not on the list of layers."""


class Output(dict[str, Any]):
    """The base class of all outputs: the values by name, in the order that transformers documents for its tuples.

    A value that was not requested is no item; as an attribute it is None. ``out.logits``, ``out["logits"]`` and
    ``out[0]``, the first item, read the same value.
    """

    _order: ClassVar[tuple[str, ...]] = ()
    """The names of the items."""

    def __init_subclass__(cls) -> None:
        """Let functions of torch that map over nested values, such as those of FSDP, reach the tensors."""
        register_pytree_node(cls, Output._flatten, partial(_unflatten, cls))

    def _flatten(self) -> tuple[list[Any], tuple[str, ...]]:
        fields = {**self, **self.__dict__}
        return list(fields.values()), tuple(fields)

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **fields: Any) -> None:
        fields = dict(values) | fields
        super().__init__((name, fields[name]) for name in self._order if fields.get(name) is not None)
        self.__dict__.update((name, value) for name, value in fields.items() if name not in self._order)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __getattr__(self, name: str) -> Any:
        if name in type(self)._order:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._order:
            self[name] = value
        else:
            super().__setattr__(name, value)

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that were requested, as with ``return_dict=False``."""
        return tuple(self.values())


def _unflatten(cls: type[Output], values: Iterable[Any], names: tuple[str, ...]) -> Output:
    return cls(zip(names, values, strict=True))


class ModelOutput(Output):
    """The output of the base model."""

    _order = ("last_hidden_state", "past_key_values", "hidden_states", "attentions", "router_logits")

    last_hidden_state: Tensor
    """[B, S, C], after the final norm."""
    past_key_values: KVCache | None
    hidden_states: ByLayer | None
    """L + 1 of [B, S, C]: the embeddings, each layer's output, the last one after the final norm."""
    attentions: ByLayer | None
    """L of [B, H, S, M], after the softmax."""
    router_logits: tuple[Tensor, ...] | None
    """L of [B·S, E], raw."""
    last_layer_output: Tensor | None = None
    """[B, S, C], the last layer's output before the final norm, with the last of the hidden states; no item."""
    context: ForwardContext
    """Positions, masks and phase of the call, for code that continues from its result; no item."""


class CausalLMOutput(Output):
    """The output of the language model."""

    _order = ("loss", "aux_loss", "logits", "past_key_values", "hidden_states", "attentions", "router_logits")

    loss: Tensor | None
    """Cross entropy in nats, plus router_aux_loss_coef · aux_loss when router logits were requested."""
    aux_loss: Tensor | None
    """The pooled balance loss, K at balance."""
    logits: Tensor
    """[B, kept, V]."""
    past_key_values: KVCache | None
    hidden_states: ByLayer | None
    """As in ``ModelOutput``, like the rest."""
    attentions: ByLayer | None
    router_logits: tuple[Tensor, ...] | None
    last_layer_output: Tensor | None = None
