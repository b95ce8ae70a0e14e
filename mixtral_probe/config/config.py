"""A Mixtral model's configuration: every field of a Hugging Face ``config.json``, checked before anything is built."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mixtral_probe.config.labels import with_labels
from mixtral_probe.config.rope import attention_factor, one_rope
from mixtral_probe.config.rules import broken_rule
from mixtral_probe.errors import InputError
from mixtral_probe.files import plain_errors, write_bytes
from mixtral_probe.json_files import read_json_object
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import one_sentence
from mixtral_probe.resources import model_path

READ_IN_EVERY_CALL = (
    "use_cache", "output_router_logits", "output_attentions", "output_hidden_states", "return_dict", "sliding_window",
    "router_aux_loss_coef", "pad_token_id", "bos_token_id", "eos_token_id", "problem_type", "id2label", "label2id",
    "initializer_range", "dtype", "architectures",
)  # fmt: skip
"""Fields that can be assigned, since a model that exists goes by them; unknown fields can be too."""
MOST_PARAMETERS = 10**15
"""Weights of a model; PyTorch cannot count the bytes of one with 10,000 times as many."""
_OTHER_NAMES = {"num_experts": "num_local_experts", "torch_dtype": "dtype"}


class MixtralConfig(BaseModel):
    """Hyperparameters of a Mixtral model under their Hugging Face names; unknown fields are kept as they are.

    Fields that determine how a model is built cannot be assigned, since a model would not change with them; ``replace``
    gives another config.

    The rotary settings are read in the spelling of transformers 4 (``rope_theta``, ``rope_scaling``) and in that of
    transformers 5 (``rope_parameters``), kept as the latter with all defaults, and written in both.

    Letters used in shapes: C ``hidden_size``, I ``intermediate_size``, L ``num_hidden_layers``,
    H ``num_attention_heads``, D ``head_size``, V ``vocab_size``, E ``num_local_experts``, K ``num_experts_per_tok``.

    Raises:
        InputError: a value breaks a rule; the sentence names the field, the value and the rule.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    model_type: str = "mixtral"
    architectures: list[str] | None = None
    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int | None = None
    """As in the file; code reads ``head_size``."""
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any]
    """``rope_type``, ``rope_theta`` and what the type needs."""
    sliding_window: int | None = None
    attention_dropout: float = 0.0
    num_experts_per_tok: int = 2
    num_local_experts: int = 8
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: float = 0.0
    routing_weight_dtype: Literal["float32", "activations"] = "float32"
    """Precision of the routing weights: float32 as in transformers 5, or that of the activations, to which transformers
    4 rounds them. Both are the same in a float32 model."""
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True
    dtype: str | None = None
    """Of the weights on disk; None where the file has none."""
    id2label: dict[int, str] = {0: "LABEL_0", 1: "LABEL_1"}
    label2id: dict[str, int] = {"LABEL_0": 0, "LABEL_1": 1}
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None

    def __init__(self, /, **fields: Any) -> None:
        with one_sentence("a config must describe a Mixtral model", "fields", "correct them"):
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise _sentence(error) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            return object.__setattr__(self, name, value)
        changed = self.replace(**{name: value}) if self._can_be_assigned(name) else None
        if changed is None or changed.num_labels != self.num_labels:
            raise InputError(
                f"config field {name} is fixed, since models are built by it, got an assignment of {value!r}; make "
                f"another config with config.replace({name}=…)"
            )
        self.__dict__.update(changed.__dict__)
        object.__setattr__(self, "__pydantic_extra__", changed.__pydantic_extra__)

    def _can_be_assigned(self, name: str) -> bool:
        return name in READ_IN_EVERY_CALL or (not hasattr(type(self), name) and name not in type(self).model_fields)

    @model_validator(mode="before")
    @classmethod
    def _in_one_spelling(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return one_rope(with_labels(_with_derived(cls._defaults() | fields)))

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Return the defaults that derived fields need where the file lacks them."""
        names = ("num_attention_heads", "hidden_size", "max_position_embeddings")
        return {name: cls.model_fields[name].default for name in names}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (rule := broken_rule(self.model_dump() | {"head_size": self.head_size})) is not None:
            raise InputError(f"config field {rule}")
        if (number := self.num_parameters()) > MOST_PARAMETERS:
            raise InputError(
                f"a config must have sizes of at most 10^15 weights together, got {number:.3g}; correct it"
            )
        return self

    @property
    def head_size(self) -> int:
        """D: ``head_dim``, or ``hidden_size // num_attention_heads`` where the file has none."""
        return self.hidden_size // max(1, self.num_attention_heads) if self.head_dim is None else self.head_dim

    @property
    def num_experts(self) -> int:
        """E, under the name that other mixture models have for it."""
        return self.num_local_experts

    @property
    def rope_theta(self) -> float:
        """The base of the rotary frequencies."""
        return float(self.rope_parameters["rope_theta"])

    @property
    def rope_scaling(self) -> dict[str, Any] | None:
        """The rotary settings as transformers 4 spells them: None for plain ones."""
        if self.rope_parameters["rope_type"] == "default":
            return None
        return {name: value for name, value in self.rope_parameters.items() if name != "rope_theta"}

    @property
    def num_labels(self) -> int:
        """The number of classes of a classification head."""
        return len(self.id2label)

    @classmethod
    def from_dict(cls, fields: dict[str, Any], **changes: Any) -> Self:
        """Build from the content of a ``config.json``, some of it changed."""
        config = cls(**fields)
        return config.replace(**changes) if changes else config

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return a config as it is, from a mapping, from an object with ``to_dict`` (of transformers), or from a path.

        Raises:
            InputError: it is none of these.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str | Path):
            return cls.from_pretrained(given)
        fields = given.to_dict() if hasattr(given, "to_dict") else given
        if not isinstance(fields, Mapping):
            raise InputError(f"a config must be a MixtralConfig, its fields or a path, got a {type(given).__name__}")
        return cls.from_dict(dict(fields))

    @classmethod
    def from_pretrained(cls, path: str | Path, **changes: Any) -> Self:
        """Read a ``config.json``, or the one in a model folder ("mini" is the embedded model), some of it changed."""
        path = model_path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            fields = read_json_object(path)
        except FileNotFoundError:
            raise InputError(f"a model folder needs a config.json, got none at {path}") from None
        return cls.from_dict(fields, **changes)

    def save_pretrained(self, folder: str | Path, push_to_hub: bool = False) -> None:
        """Write ``config.json`` into a folder, which is created where needed; ``push_to_hub`` must be False."""
        if push_to_hub:
            raise InputError("a config is saved in a folder only, got push_to_hub=True; leave it out")
        with plain_errors(folder := checked_path(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        self.to_json_file(folder / "config.json")

    def to_json_file(self, json_file_path: str | Path) -> None:
        """Write a ``config.json`` under another name."""
        write_bytes(checked_path(json_file_path), self.to_json_string().encode())

    def to_json_string(self) -> str:
        """Return the text of a ``config.json``."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def get_text_config(self, decoder: bool = False) -> Self:
        """Return the config itself: a Mixtral has no other part than that of text."""
        return self

    def replace(self, **changes: Any) -> Self:
        """Return the same config with some fields changed, checked again."""
        fields = self.model_dump()
        changes = {_OTHER_NAMES.get(name, name): value for name, value in changes.items()}
        if ropes := [changes[name] for name in ("rope_parameters", "rope_scaling") if name in changes]:
            del fields["rope_parameters"]
            fields.pop("original_max_position_embeddings", None)
            if not any("rope_theta" in (rope or {}) for rope in ropes):
                fields["rope_theta"] = self.rope_theta
        elif "rope_theta" in changes:
            fields["rope_parameters"] = self.rope_parameters | {"rope_theta": changes["rope_theta"]}
        if changes.keys() & {"num_labels", "id2label"}:
            del fields["id2label"], fields["label2id"]
        return type(self)(**fields | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a ``config.json`` from which transformers 4 and 5 build the same model.

        With scaled rotary embeddings more than the fields is needed: both need ``head_dim``, and for longrope
        transformers 4 looks for ``original_max_position_embeddings`` next to them and uses the attention factor only
        where it is written out.
        """
        fields = self.model_dump()
        kind, rope = self.rope_parameters["rope_type"], dict(self.rope_parameters)
        if kind in ("dynamic", "yarn", "longrope"):
            fields["head_dim"] = self.head_size
        if kind == "longrope":
            rope["attention_factor"] = attention_factor(rope, self.max_position_embeddings)
            fields["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
        scaling = None if kind == "default" else {name: rope[name] for name in rope if name != "rope_theta"}
        fields |= {"rope_parameters": rope, "rope_theta": self.rope_theta, "rope_scaling": scaling}
        fields |= {"architectures": self.architectures or ["MixtralForCausalLM"], "torch_dtype": self.dtype}
        if list(self.id2label.values()) == ["LABEL_0", "LABEL_1"]:  # transformers leaves the default out as well
            del fields["id2label"], fields["label2id"]
        return fields

    def parameters_by_part(self) -> dict[str, int]:
        """Count the parameters of the causal language model, part by part; a tied head has none.

        The keys are "embedding", "attention", "routers", "experts", "norms" and "head".
        """
        width, layers, experts = self.hidden_size, self.num_hidden_layers, self.num_local_experts
        table = self.vocab_size * width
        return {
            "embedding": table,
            "attention": layers * 2 * width * self.head_size * (self.num_attention_heads + self.num_key_value_heads),
            "routers": layers * experts * width,
            "experts": layers * experts * 3 * width * self.intermediate_size,
            "norms": (2 * layers + 1) * width,
            "head": 0 if self.tie_word_embeddings else table,
        }

    def num_parameters(self) -> int:
        """Count all parameters of the causal language model; see ``parameters_by_part``."""
        return sum(self.parameters_by_part().values())

    def num_active_parameters(self) -> int:
        """Count the parameters that one token uses: K of the E experts in each layer, and everything else."""
        idle = self.num_local_experts - self.num_experts_per_tok
        return self.num_parameters() - self.num_hidden_layers * idle * 3 * self.hidden_size * self.intermediate_size


def _sentence(error: ValidationError) -> InputError:
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
        return cause
    name = ".".join(str(part) for part in first["loc"])
    return InputError(f"config field {name}: {first['msg']}; it is {first['input']!r}")


def _with_derived(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert older names to current ones, and None to the value it stands for."""
    if "num_experts" in fields:
        experts = fields.pop("num_experts")
        if fields.setdefault("num_local_experts", experts) != experts:
            raise InputError(
                f"config fields num_experts and num_local_experts mean the same, got {experts} and "
                f"{fields['num_local_experts']}; give one"
            )
    if fields.get("num_key_value_heads", 0) is None:
        fields["num_key_value_heads"] = fields["num_attention_heads"]
    older = fields.pop("torch_dtype", None)
    if (dtype := fields.get("dtype") or older) is not None:
        fields["dtype"] = str(dtype).removeprefix("torch.")
    return fields
