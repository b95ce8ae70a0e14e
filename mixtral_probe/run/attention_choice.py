"""The choice of attention to record: "0,3", "8-15", "all", heads as "3:0-7"."""

import re
from collections.abc import Iterable, Mapping

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.resizing.pruning import removed_heads
from mixtral_probe.trace import AttentionPlan

AttentionChoice = str | Iterable[int] | Mapping[int, Iterable[int]] | None
_PART = re.compile(r"(all|\d{1,9}(?:-\d{1,9})?)(?::(\d{1,9}(?:-\d{1,9})?))?")


def attention_plan(choice: AttentionChoice, config: MixtralConfig, maps: bool = True) -> AttentionPlan | None:
    """The layers and heads of a choice.

    Args:
        choice: None or "" for none; layers as a list, "all", or a text such as "0,3", "8-15" or, for some heads only,
            "3:0-7,5:2"; or a mapping from layer to heads.
        maps: keep the maps; without them only the sums per head and document.

    Raises:
        InputError: the text has another form, or a layer or head does not exist or was pruned.
    """
    chosen: dict[int, set[int]] = {}
    for layer, heads in _pairs(choice, config):
        chosen.setdefault(layer, set()).update(heads)
    if not chosen:
        return None
    plan = AttentionPlan({layer: tuple(sorted(heads)) for layer, heads in sorted(chosen.items())}, maps=maps)
    plan.check(config.num_hidden_layers, config.num_attention_heads)
    for layer, heads in plan.layers.items():
        if pruned := set(heads) - set(_heads(layer, config)):
            raise InputError(
                f"attention exists for heads that are not pruned, got head {min(pruned)} of layer {layer}; leave it out"
            )
    return plan


def _heads(layer: int, config: MixtralConfig) -> list[int]:
    """The heads a layer has."""
    pruned = removed_heads(config).get(layer, ())
    return [head for head in range(config.num_attention_heads) if head not in pruned]


def _pairs(choice: AttentionChoice, config: MixtralConfig) -> Iterable[tuple[int, Iterable[int]]]:
    if choice is None:
        return ()
    if isinstance(choice, str):
        return [pair for part in choice.split(",") if part.strip() for pair in _parsed(part.strip(), config)]
    if isinstance(choice, Mapping):
        return choice.items()
    if not isinstance(choice, Iterable):
        example = f"[{choice}]" if type(choice) is int else "[0, 3], 'all' or None"
        raise InputError(f"attention must be a list of layers, a text or a mapping, got {choice!r}; give {example}")
    return [(layer, _heads(layer, config)) for layer in choice]


def _parsed(part: str, config: MixtralConfig) -> list[tuple[int, Iterable[int]]]:
    match = _PART.fullmatch(part)
    if match is None:
        raise InputError(f"attention layers are written as '0,3', '8-15' or 'all', with heads as '3:0-7', got {part!r}")
    layers = range(config.num_hidden_layers)
    layers = layers if match[1] == "all" else _span(match[1], "layer", len(layers))
    heads = None if match[2] is None else _span(match[2], "head", config.num_attention_heads)
    return [(layer, _heads(layer, config) if heads is None else heads) for layer in layers]


def _span(text: str, noun: str, count: int) -> range:
    """Return the numbers of "3" or "0-7", of `count` that there are."""
    first, _, last = text.partition("-")
    if last and int(last) < int(first):
        raise InputError(f"a range counts upward, got {text!r}; write '{last}-{first}'")
    if int(last or first) >= count:
        raise InputError(f"{noun} must be in 0–{count - 1}, got {last or first}")
    return range(int(first), int(last or first) + 1)
