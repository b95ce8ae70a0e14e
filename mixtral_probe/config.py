"""A Mixtral model's configuration: every field of a Hugging Face ``config.json``, checked before anything is built.

Both spellings of the rotary settings are read, transformers 4 (``rope_theta``, ``rope_scaling``) and transformers 5
(``rope_parameters``), and both are written, so either version loads what this project saves.
"""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mixtral_probe.errors import InputError

ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "tanh", "sigmoid")
DEFAULT_ROPE_THETA = 1_000_000.0
_POSITIVE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "num_experts_per_tok", "num_local_experts",
    "sliding_window", "rms_norm_eps",
)  # fmt: skip


class MixtralConfig(BaseModel):
    """Hyperparameters of a Mixtral model under their Hugging Face names; fields it does not know are kept as they are.

    Letters used in shapes: C ``hidden_size``, I ``intermediate_size``, L ``num_hidden_layers``,
    H ``num_attention_heads``, D ``head_dim``, V ``vocab_size``, E ``num_local_experts``, K ``num_experts_per_tok``.

    Raises:
        InputError: a value breaks a rule; the sentence names the field, the value and the rule.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    model_type: str = "mixtral"
    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 0  # filled in below: hidden_size // num_attention_heads unless given
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    rope_theta: float = DEFAULT_ROPE_THETA
    rope_parameters: dict[str, Any] | None = None
    sliding_window: int | None = None
    attention_dropout: float = 0.0
    num_experts_per_tok: int = 2
    num_local_experts: int = 8
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: float = 0.0

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
                raise cause from None
            name = ".".join(str(part) for part in first["loc"])
            raise InputError(f"config field {name}: {first['msg']}; it is {first['input']!r}") from None

    @model_validator(mode="before")
    @classmethod
    def _fill_derived_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        fields = dict(fields)
        if "num_experts" in fields:
            fields.setdefault("num_local_experts", fields.pop("num_experts"))
        heads = fields.get("num_attention_heads", cls.model_fields["num_attention_heads"].default)
        width = fields.get("hidden_size", cls.model_fields["hidden_size"].default)
        if fields.get("num_key_value_heads", 0) is None:
            fields["num_key_value_heads"] = heads
        if fields.get("head_dim") is None and isinstance(heads, int) and isinstance(width, int) and heads > 0:
            fields["head_dim"] = width // heads
        return _with_one_rope(fields)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"config field {name} must be positive, but it is {value}")
        rules = (
            (self.model_type == "mixtral", f"model_type must be 'mixtral', but it is {self.model_type!r}"),
            (self.num_experts_per_tok <= self.num_local_experts,
             f"num_experts_per_tok must be at most num_local_experts ({self.num_local_experts}), "
             f"but it is {self.num_experts_per_tok}"),
            (self.num_attention_heads % self.num_key_value_heads == 0,
             f"num_attention_heads must be a multiple of num_key_value_heads ({self.num_key_value_heads}), "
             f"but it is {self.num_attention_heads}"),
            (self.head_dim % 2 == 0,
             f"head_dim must be even, since rotary embeddings turn pairs of numbers, but it is {self.head_dim}"),
            (self.hidden_act in ACTIVATIONS,
             f"hidden_act must be one of {', '.join(ACTIVATIONS)}, but it is {self.hidden_act!r}"),
            (0 <= self.attention_dropout < 1,
             f"attention_dropout must be in [0, 1), but it is {self.attention_dropout}"),
            (0 <= self.router_jitter_noise < 1,
             f"router_jitter_noise must be in [0, 1), but it is {self.router_jitter_noise}"),
            (self.pad_token_id is None or -1 <= self.pad_token_id < self.vocab_size,
             f"pad_token_id must be below vocab_size ({self.vocab_size}), but it is {self.pad_token_id}"),
            (self.rope_theta > 0, f"rope_theta must be positive, but it is {self.rope_theta}"),
        )  # fmt: skip
        for holds, message in rules:
            if not holds:
                raise InputError(f"config field {message}")
        return self

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Build from the content of a ``config.json``."""
        return cls(**fields)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a ``config.json``, or the one in a model folder."""
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"a model folder needs a config.json, but there is none at {path}") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"config.json must be valid JSON, but {path} is not: {error}") from None
        if not isinstance(fields, dict):
            raise InputError(f"config.json must hold one JSON object, but {path} holds a {type(fields).__name__}")
        return cls.from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``config.json`` that transformers 4 and 5 both read."""
        return {"architectures": ["MixtralForCausalLM"], **self.model_dump()}

    def num_parameters(self) -> int:
        """Parameters of the causal language model: embeddings, attention, routers, experts, norms and head."""
        width, experts = self.hidden_size, self.num_local_experts
        attention = 2 * width * self.head_dim * (self.num_attention_heads + self.num_key_value_heads)
        mixture = experts * (3 * width * self.intermediate_size + width)
        embeddings = self.vocab_size * width * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_hidden_layers * (attention + mixture + 2 * width) + width

    def num_active_parameters(self) -> int:
        """Parameters one token passes through: K of the E experts in each layer, everything else whole."""
        idle = self.num_local_experts - self.num_experts_per_tok
        return self.num_parameters() - self.num_hidden_layers * idle * 3 * self.hidden_size * self.intermediate_size


def _with_one_rope(fields: dict[str, Any]) -> dict[str, Any]:
    """Make both spellings of the rotary settings agree; only the plain rotary embedding is supported."""
    rope = dict(fields.pop("rope_scaling", None) or {}) | dict(fields.get("rope_parameters") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise InputError(f"rope_type must be 'default', but it is {kind!r}; scaled rotary embeddings cannot be run")
    theta = rope.get("rope_theta", fields.get("rope_theta") or DEFAULT_ROPE_THETA)
    return fields | {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
