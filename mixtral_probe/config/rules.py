"""The rules for the values of a config, one sentence per rule."""

from collections.abc import Iterator
from typing import Any

from mixtral_probe.config.rope import rope_rules

ACTIVATIONS = (
    "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "gelu_python_tanh",
    "quick_gelu", "relu", "relu2", "relu6", "leaky_relu", "hardswish", "mish", "sigmoid", "tanh", "linear",
)  # fmt: skip
"""Names ``hidden_act`` may have."""
_POSITIVE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "num_experts_per_tok", "num_local_experts",
    "sliding_window", "rms_norm_eps",
)  # fmt: skip
_POSITIONS = ("max_position_embeddings", "sliding_window")
LARGEST_SIZE, LARGEST_POSITION = 2**31 - 1, 2**63 - 1
"""Of a size of weights and of a number of positions; 64 bits hold products of two sizes."""


def broken_rule(fields: dict[str, Any]) -> str | None:
    """Return the first rule that the fields (with ``head_size``) break, as a sentence that begins with the field."""
    return next((sentence for kept, sentence in _rules(fields) if not kept), None)


def _rules(fields: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield whether each rule is kept, and its sentence; sizes first, since the other rules use them."""
    for name in _POSITIVE:
        if (value := fields[name]) is not None:
            yield value > 0, f"{name} must be positive, got {value}"
            largest = LARGEST_POSITION if name in _POSITIONS else LARGEST_SIZE
            yield value <= largest, f"{name} must be at most {largest:,}, got {value}"
    yield from _size_rules(fields)
    yield from _range_rules(fields)
    yield from rope_rules(fields["rope_parameters"], fields["head_size"])


def _size_rules(fields: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    heads, kv_heads = fields["num_attention_heads"], fields["num_key_value_heads"]
    yield (
        heads % kv_heads == 0,
        f"num_attention_heads must be a multiple of num_key_value_heads ({kv_heads}), got {heads}",
    )
    size, width = fields["head_size"], fields["hidden_size"]
    derived = "" if fields["head_dim"] is not None else f" (hidden_size {width} over {heads} heads)"
    yield (
        size > 0 and size % 2 == 0,
        f"head_dim must be even, since rotary embeddings turn pairs of numbers, got {size}{derived}",
    )
    experts, chosen = fields["num_local_experts"], fields["num_experts_per_tok"]
    yield chosen <= experts, f"num_experts_per_tok must be at most num_local_experts ({experts}), got {chosen}"
    vocabulary, pad = fields["vocab_size"], fields["pad_token_id"]
    yield (
        pad is None or -1 <= pad < vocabulary,
        f"pad_token_id must be below vocab_size ({vocabulary}), got {pad}",
    )


def _range_rules(fields: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    yield fields["model_type"] == "mixtral", f"model_type must be 'mixtral', got {fields['model_type']!r}"
    yield (
        fields["hidden_act"] in ACTIVATIONS,
        f"hidden_act must be one of {', '.join(ACTIVATIONS)}, got {fields['hidden_act']!r}",
    )
    for name in ("attention_dropout", "router_jitter_noise"):
        yield 0 <= fields[name] < 1, f"{name} must be in [0, 1), got {fields[name]}"
    for name in ("initializer_range", "router_aux_loss_coef"):
        yield fields[name] >= 0, f"{name} must not be negative, got {fields[name]}"
    labels, numbers = fields["id2label"], fields["label2id"]
    yield (
        sorted(labels) == list(range(len(labels))) and len(labels) > 0,
        f"id2label must name the labels 0, 1, 2, … without gaps, got {sorted(labels)}",
    )
    yield (
        all(numbers.get(name) == label for label, name in labels.items()),
        f"label2id must be the reverse of id2label, got {numbers}",
    )
    yield (
        fields["problem_type"] != "single_label_classification" or len(labels) > 1,
        "problem_type 'single_label_classification' needs num_labels above 1, got 1",
    )
