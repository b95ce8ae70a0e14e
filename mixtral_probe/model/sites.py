"""The sites of a forward pass, where instruments observe or change it, their values, and the base class ``Instrument``.

An instrument belongs to one call; nothing stays on the model, so threads that share a model do not share instruments.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.context import ForwardContext

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
    ROUTER_INPUT = "router_input"  # [B, S, C], after the norm; also the input of the experts
    ROUTER_LOGITS = "router_logits"  # [T, E], before top-k
    ROUTING = "routing"  # Routing, after top-k
    EXPERT_OUTPUT = "expert_output"  # ExpertSlice, before weighting
    MOE_OUTPUT = "moe_output"  # [B, S, C]
    RESIDUAL = "residual"  # [B, S, C], the layer's output
    LOGITS = "logits"  # [B, kept, V]


@dataclass(frozen=True, slots=True)
class Routing:
    """The experts chosen for each row, strongest first, and their weights."""

    expert_ids: Tensor
    """[T, K] int64; −1 where an edit gave a row fewer than K."""
    weights: Tensor
    """[T, K], float32 unless ``routing_weight_dtype`` says otherwise; each row sums to 1 unless an edit changed it."""
    logits: Tensor
    """[T, E] the logits of the choice, for an edit that chooses again."""


@dataclass(frozen=True, slots=True)
class ExpertSlice:
    """The output of one expert for its rows; empty for an expert without rows."""

    expert: int
    rows: Tensor
    """[n] int64, indices into the T rows of the call."""
    values: Tensor
    """[n, C], before the routing weight."""


@dataclass(frozen=True, slots=True)
class AttentionSlice:
    """The attention weights of some heads of a layer. A layer may have several slices, to bound memory."""

    heads: tuple[int, ...]
    weights: Tensor
    """[B, len(heads), S, M], each row summing to 1."""

    def of(self, heads: Sequence[int]) -> Tensor:
        """The weights of some of its heads; a view where those are all of them."""
        if tuple(heads) == self.heads:
            return self.weights
        return self.weights[:, [self.heads.index(head) for head in heads]]


class Instrument:
    """An observer or edit of one forward call: derive from it, and override what is needed.

    A recorder names its ``sites``, or decides by layer in ``wants``, and has a ``visit``. An edit returns another value
    from ``visit``; one that changes attention weights also sets ``edits_attention = True``, so that the layer's output
    is computed from them. A timer overrides ``span``.
    """

    sites: ClassVar[Collection[Site]] = ()
    """The sites that ``wants`` accepts, in every layer."""

    @property
    def edits_attention(self) -> bool:
        """Whether ``visit`` may change ``attention_weights``; False."""
        return False

    def wants(self, site: Site, layer: int) -> bool:
        """Whether ``visit`` is to be called at a site of a layer (``MODEL`` where it has none); once per call."""
        return site in self.sites

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Return the value to be used from here on: the same, or another of the same kind."""
        return value

    def span(self, site: Site, layer: int, expert: int | None = None) -> AbstractContextManager[Any]:
        """A context to be open while the value of a site is computed; ``expert`` only at ``expert_output``.

        The span of ``residual`` is that of a whole layer, the span of ``expert_output`` one expert's product with its
        rows (dispatch and combine fall to ``moe_output``). The span of another site lies inside that of the value it
        serves.
        """
        return nullcontext()

    def heads(self, layer: int) -> Sequence[int] | None:
        """The heads whose ``attention_weights`` are wanted, None for all."""
        return None

    def check(self, config: MixtralConfig) -> None:
        """Raise InputError for a model that the instrument does not fit; called before each forward pass."""
