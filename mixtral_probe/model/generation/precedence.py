"""Where the options of a generation come from: the call, a config given to it, the model, defaults.

The precedence is that of transformers.
"""

import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mixtral_probe.config import GenerationConfig, MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.generation.options import KNOWN, GenerationOptions
from mixtral_probe.model.generation.rules import DRAWING, are_ids, whole

NEW_TOKENS, TOP_K = 20, 50
"""At most generated, and drawn from, where neither the call nor the model says how many, as in transformers."""
WITHOUT_EFFECT = (
    "use_cache", "cache_implementation", "disable_compile", "compile_config", "synced_gpus", "logits_to_keep",
    "prefill_chunk_size",
)  # fmt: skip
"""Options of transformers that change no token: a cache of its own kind is always used, and nothing is compiled."""
_LENGTHS = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Numbers of tokens that count the prompt, and those that do not."""
_ELSEWHERE = {
    "guidance_scale": 1, "watermarking_config": None, "penalty_alpha": 0, "dola_layers": None, "diversity_penalty": 0,
    "num_beam_groups": 1, "constraints": None, "force_words_ids": None, "top_h": None, "token_healing": False,
    "encoder_repetition_penalty": 1, "encoder_no_repeat_ngram_size": 0, "assistant_model": None,
    "prompt_lookup_num_tokens": None, "custom_generate": None,
}  # fmt: skip
"""Options that only transformers has, and the value of each without effect."""


def collect_options(
    config: MixtralConfig,
    stored: Mapping[str, Any],
    options: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
    prompt_length: int | None = None,
) -> GenerationOptions:
    """Collect options: those given by name, then those of a config given to the call, then stored ones, then defaults.

    With an explicit ``eos_token_id=None`` no row stops. The first stop id is the default of the padding id, and tokens
    are drawn from the ``TOP_K`` best. Settings of drawing are left out where nothing is drawn, with a warning about
    those given by name, and stored stop ids beyond the vocabulary where they can never be chosen.

    Args:
        config: of the model.
        stored: the ``generation_config`` of the model; None is unset.
        options: given by name; None stands for no effect, and ids may be tensors or arrays.
        given: a ``generation_config`` given to the call; None is unset.
        prompt_length: S, from which ``max_length`` and ``min_length`` count; without it they cannot be set.

    Raises:
        InputError: an option is unknown or breaks a rule.
    """
    _check_names(options)
    options = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in options.items()}
    merged = {"top_k": TOP_K} | _with_ends_of(config.vocab_size, _set(stored)) | _set(given or {}) | dict(options)
    if not merged.get("do_sample"):
        merged = {name: value for name, value in merged.items() if name not in DRAWING}
        _warn_of_drawing(options)
    try:
        _refuse_elsewhere(merged)
        merged = _in_new_tokens(merged, prompt_length, config.max_position_embeddings)
        chosen = GenerationOptions(**{n: v for n, v in merged.items() if n in KNOWN and v is not None})
        return chosen.with_checked_ids(config.vocab_size)
    except InputError as error:
        name = str(error).split()[0]
        origin = "" if name in options else f", set in a generation_config; pass {name}="
        raise InputError(f"{error}{origin}") from None


def _warn_of_drawing(options: Mapping[str, Any]) -> None:
    """Name a setting of drawing that changes nothing, since nothing is drawn; as in transformers it is no error."""
    for name, neutral in (DRAWING | {"top_k": TOP_K}).items():
        if options.get(name) not in (None, 0, neutral):
            warnings.warn(f"{name}={options[name]!r} has no effect without do_sample=True", stacklevel=5)


def stored_in(config: MixtralConfig) -> GenerationConfig:
    """The defaults of generation of a model without a ``generation_config.json``: those in its config."""
    names = [name for name in (*KNOWN, *_LENGTHS, "bos_token_id") if not name.startswith("output_")]
    return GenerationConfig(_set({name: getattr(config, name, None) for name in names}), _from_model_config=True)


def _set(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _with_ends_of(vocabulary: int, stored: dict[str, Any]) -> dict[str, Any]:
    """The same without stop ids beyond the vocabulary."""
    ends = stored.get("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [ends]
    return stored | {"eos_token_id": [token for token in ends if token < vocabulary]} if are_ids(ends) else stored


def _in_new_tokens(options: dict[str, Any], prompt: int | None, most_positions: int) -> dict[str, Any]:
    """Lengths as numbers of new tokens, which take precedence where both are set."""
    options = dict(options)
    for name, new in _LENGTHS.items():
        length = options.pop(name, None)
        if not length or options.get(new) is not None:
            continue
        if prompt is None:
            raise InputError(f"{name} counts the prompt, got {length!r} for prompts of several lengths; use {new}")
        if not whole(length) or (name == "max_length" and length <= prompt):
            raise InputError(f"{name} must be a whole number above the prompt's {prompt} tokens, got {length!r}")
        options[new] = max(0, length - prompt)
    if prompt is not None and options.get("max_new_tokens") is None and 0 < most_positions - prompt < NEW_TOKENS:
        options["max_new_tokens"] = most_positions - prompt
    return options


def _refuse_elsewhere(options: Mapping[str, Any]) -> None:
    for name, neutral in _ELSEWHERE.items():
        if options.get(name) not in (None, neutral):
            raise InputError(f"{name} exists only in transformers, got {options[name]!r}; leave it out")


def _check_names(options: Iterable[str]) -> None:
    for name in options:
        if name == "position_ids":
            raise InputError("positions of generate follow from the attention_mask, got position_ids; leave them out")
        if name not in (*KNOWN, *_LENGTHS, *WITHOUT_EFFECT, *_ELSEWHERE):
            near = get_close_matches(name, (*KNOWN, *_LENGTHS), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(KNOWN)}"
            raise InputError(f"options of generate must be among its own, got {name!r}; {hint}")
