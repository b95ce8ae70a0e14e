"""The device of each part of a model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from mixtral_probe.checkpoint.memory import available_bytes, require_memory
from mixtral_probe.checkpoint.options import as_device
from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError

Device = str | int | torch.device
DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"] | Device | Mapping[int | str, Device]
HEADROOM = 0.1
"""Share of an accelerator's free memory that "auto" reserves for activations."""
_LAYER = re.compile(r"(?:model\.)?layers\.(\d+)")
_PARTS = {
    "": "", "model": "", "embed_tokens": "embed_tokens", "model.embed_tokens": "embed_tokens", "norm": "norm",
    "model.norm": "norm", "head": "head", "lm_head": "head", "score": "head", "qa_outputs": "head",
}  # fmt: skip

_ANYWHERE = ("rotary_emb", "model.rotary_emb")
"""Parts of transformers without weights, whose values are made where they are used."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device for every part of a model."""

    embedding: torch.device
    layers: tuple[torch.device, ...]
    norm: torch.device
    head: torch.device

    @property
    def devices(self) -> set[torch.device]:
        """All devices."""
        return {self.embedding, *self.layers, self.norm, self.head}

    def of(self, name: str) -> torch.device:
        """The device of a parameter, by its name in a model with a head."""
        if match := _LAYER.match(name):
            return self.layers[int(match[1])]
        if name.startswith("model.embed_tokens."):
            return self.embedding
        return self.norm if name.startswith("model.norm.") else self.head


def place_on(config: MixtralConfig, device: Device) -> Placement:
    """Everything on one device."""
    target = as_device(device)
    return Placement(target, (target,) * config.num_hidden_layers, target, target)


def place(config: MixtralConfig, device_map: DeviceMap, dtype: torch.dtype) -> Placement:
    """The devices of ``device_map``.

    Args:
        device_map: "auto", like the other names that accelerate has for it, distributes the layers to the accelerators
            by their free memory, and to the CPU the parts that do not fit. A device is that of all parts. A mapping
            gives devices to layers, by number or as "model.layers.3", and to "embed_tokens", "norm" and "head"; by
            default these three are on the devices of the first and the last layer, and "" is for every part that is not
            named.

    Raises:
        InputError: a layer has no device, or a part or a device does not exist.
    """
    if device_map in get_args(get_args(DeviceMap)[0]):
        return _tied(config, _distributed(config, dtype))
    if not isinstance(device_map, Mapping):
        return place_on(config, device_map)
    named = {key: device for key, device in device_map.items() if key not in _ANYWHERE}
    devices = {_part(key, config.num_hidden_layers): as_device(device) for key, device in named.items()}
    missing = [layer for layer in range(config.num_hidden_layers) if layer not in devices]
    if missing and "" not in devices:
        raise InputError(
            f"device_map must give every layer a device, got none for layer {missing[0]}; '' is for the rest"
        )
    layers = tuple(devices.get(layer, devices.get("")) for layer in range(config.num_hidden_layers))
    first, last = devices.get("", layers[0]), devices.get("", layers[-1])
    return _tied(
        config,
        Placement(devices.get("embed_tokens", first), layers, devices.get("norm", last), devices.get("head", last)),  # type: ignore[arg-type]
    )


def _tied(config: MixtralConfig, placement: Placement) -> Placement:
    """Place a tied head on the device of the embedding."""
    if not config.tie_word_embeddings:
        return placement
    return Placement(placement.embedding, placement.layers, placement.norm, placement.embedding)


def require_capacity(config: MixtralConfig, placement: Placement, dtype: torch.dtype) -> None:
    """Raise InputError if the parts of a device do not fit there."""
    needed: dict[torch.device, int] = {}
    in_order = (placement.embedding, *placement.layers, placement.head)
    for device, size in zip(in_order, part_sizes(config), strict=True):
        needed[device] = needed.get(device, 0) + size
    for device, parameters in needed.items():
        if device.type != "meta":
            require_memory(parameters, dtype, device)


def part_sizes(config: MixtralConfig) -> list[int]:
    """Parameters of the embedding, of each layer, and of final norm and head together."""
    embedding = config.vocab_size * config.hidden_size
    rest = config.num_parameters() - embedding * (1 if config.tie_word_embeddings else 2) - config.hidden_size
    layer = rest // config.num_hidden_layers
    head = config.hidden_size if config.tie_word_embeddings else embedding + config.hidden_size
    return [embedding, *[layer] * config.num_hidden_layers, head]


def distribute(sizes: Sequence[int], capacities: Sequence[float]) -> list[int]:
    """The index of the device of each part, in order; ``len(capacities)`` for parts that fit nowhere.

    If all fit, all devices are filled to about the same share.
    """
    for percent in range(1, 101):
        places = _fill_in_order(sizes, [capacity * percent / 100 for capacity in capacities])
        if places[-1] < len(capacities):
            return places
    return _fill_in_order(sizes, capacities)


def _fill_in_order(sizes: Sequence[int], capacities: Sequence[float]) -> list[int]:
    places: list[int] = []
    device, used = 0, 0
    for size in sizes:
        while device < len(capacities) and used + size > capacities[device]:
            device, used = device + 1, 0
        places.append(device)
        used += size
    return places


def _distributed(config: MixtralConfig, dtype: torch.dtype) -> Placement:
    devices = _accelerators()
    free = [available_bytes(device) for device in devices]
    capacities = [float("inf") if size is None else (1 - HEADROOM) * size / dtype.itemsize for size in free]
    devices = [*devices, torch.device("cpu")]
    embedding, *layers, head = (devices[i] for i in distribute(part_sizes(config), capacities))
    return Placement(embedding, tuple(layers), head, head)


def _accelerators() -> list[torch.device]:
    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return [torch.device(kind.type, index) for index in range(torch.accelerator.device_count())]


def _part(key: int | str, layers: int) -> int | str:
    match = _LAYER.fullmatch(key) if isinstance(key, str) else None
    layer = int(match[1]) if match else key
    if isinstance(layer, int):
        if not 0 <= layer < layers:
            raise InputError(f"layer must be in 0–{layers - 1} (this model has {layers}), got {layer}")
        return layer
    if layer not in _PARTS:
        raise InputError(f"keys of device_map must be layers by number, embed_tokens, norm or head, got {key!r}")
    return _PARTS[layer]
