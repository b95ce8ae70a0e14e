"""The description of a trace: sizes, model, tokenizer, corpus, software."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA_VERSION = 1
Size = Annotated[int, Field(ge=1, le=32_768)]
"""A number of layers, experts or heads; the expert ids of a trace have 16 bits."""


class TraceMeta(BaseModel):
    """Frozen facts about one run, stored in `trace.json`.

    Dictionaries hold only what JSON can hold; tuples in them become lists at once, so that a
    trace read back equals the one written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    num_layers: Size
    """L, the layers that have a router: the first axis of every array."""
    num_experts: Size
    """E, experts per layer."""
    num_experts_per_tok: Size
    """K, the largest number of experts chosen anywhere: the last axis of `expert_ids`."""
    moe_layers: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] | None = None
    """[L] the model's own layer number of each traced layer; None when all are mixtures."""
    num_heads: Size | None = None
    """H, attention heads per layer; None when unknown."""
    model: dict[str, Any] = Field(default_factory=dict)
    """name, fingerprint and other facts that identify the weights."""
    tokenizer: dict[str, Any] = Field(default_factory=dict)
    corpus: dict[str, Any] = Field(default_factory=dict)
    dtype: str | None = None
    """The dtype the model computed in; the arrays of a trace are always float32."""
    device: str | None = None
    software: dict[str, Any] = Field(default_factory=dict)
    instruments: list[dict[str, Any]] = Field(default_factory=list)
    """The instruments attached to the run, with their settings, in the order they were called."""
    nonfinite: tuple[int, ...] | None = None
    """[L] tokens whose routing was not finite, which have no choice there and count nowhere; None where all are."""
    log_probabilities: bool = False
    """Whether the router logits are logarithms of probabilities: their softmax is known, their z-loss is not."""
    created: str = ""
    """UTC time, ISO 8601; empty when unknown."""

    @property
    def layers(self) -> tuple[int, ...]:
        """[L] the model's own number of each traced layer."""
        return tuple(range(self.num_layers)) if self.moe_layers is None else self.moe_layers

    def without_choice(self, ids: np.ndarray) -> "TraceMeta":
        """Return the same with ``nonfinite`` counted anew: the tokens of expert ids [L, T, K] that have no choice."""
        counts = tuple((ids[..., 0] < 0).sum(1).tolist())
        return self.model_copy(update={"nonfinite": counts if any(counts) else None})

    @property
    def facts(self) -> dict[str, Any]:
        """All fields as JSON values, without those that few traces have where this one has them not."""
        rare = {"nonfinite", "log_probabilities"}
        return self.model_dump(exclude={name for name in rare if not getattr(self, name)})

    @field_validator("model", "tokenizer", "corpus", "software", "instruments")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        try:
            return json.loads(json.dumps(value))
        except TypeError as error:
            raise ValueError(f"only what JSON can hold may stand here: {error}") from None

    @model_validator(mode="after")
    def _layers_agree(self) -> "TraceMeta":
        if self.moe_layers is not None and len(self.moe_layers) != self.num_layers:
            raise ValueError(f"moe_layers names {len(self.moe_layers)} layers where num_layers is {self.num_layers}")
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(f"{self.num_experts_per_tok} experts per token where there are {self.num_experts}")
        return self


def utc_now() -> str:
    """Return the current time in the form of `created`."""
    return datetime.now(UTC).isoformat(timespec="seconds")
