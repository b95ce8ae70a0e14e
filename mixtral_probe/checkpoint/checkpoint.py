"""Reading a model folder: weights by their names in memory, one tensor or one layer at a time."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from mixtral_probe.checkpoint.files import StoredTensor, equal, open_file
from mixtral_probe.checkpoint.names import (
    EMBEDDING,
    HEAD,
    TASK_HEADS,
    Layout,
    NativeLayout,
    Piece,
    is_frequency,
    layer_of,
    location,
    pieces,
)
from mixtral_probe.checkpoint.native import PARAMS, native_config
from mixtral_probe.checkpoint.options import STORED
from mixtral_probe.checkpoint.quantised import quantisation, quantised_sentence
from mixtral_probe.checkpoint.recognise import ADAPTER, no_folder, require_model
from mixtral_probe.checkpoint.weights import has_weights, is_native, stored_tensors
from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.model.attention.rope import Rope
from mixtral_probe.reading import one_sentence
from mixtral_probe.resources import model_path

_LAYER = "model.layers.0."


class Checkpoint:
    """The config and the weights of a model folder: classic, fused or one of Mistral's, in one file or in shards.

    Opening reads headers only, and checks that every weight of the config is stored with its shape. Weights have their
    names in memory, whatever the layout. No file stays open between calls, and returned tensors are copies.

    Args:
        folder: a model folder, or "mini" for the embedded model.
        config: instead of that of the folder, which then need not have one.

    Raises:
        InputError: the folder, its config or its weights are broken; the message names layer, expert, tensor and file.
    """

    def __init__(self, folder: str | Path, config: MixtralConfig | None = None) -> None:
        self.folder = model_folder(folder)
        with one_sentence("a model folder must hold a config and weights", self.folder, "download it again"):
            self._open(config)

    def _open(self, config: MixtralConfig | None) -> None:
        native = is_native(self.folder)
        self.config = _config(self.folder, native) if config is None else config
        self._stored = stored_tensors(self.folder)
        self._frequencies = {name: self._stored.pop(name) for name in list(self._stored) if is_frequency(name)}
        self.layout: Layout | NativeLayout = _layout(self._stored, native)
        """The layout of names and experts."""
        self._check_numbers()
        self._shapes = _expected_shapes(self.config) | _task_heads(self._stored)
        self._share_embedding()
        self._warn_of_unused(unused := self._check())
        self.unused = tuple(self._stored[name].name for name in unused)
        """The names of stored tensors that a Mixtral of this config has no place for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the weights in memory, stored heads included, a tied head not."""
        return tuple(self._shapes)

    @property
    def has_head(self) -> bool:
        """Whether the language head is stored, or tied to the embedding."""
        return self.config.tie_word_embeddings or HEAD in self._shapes

    @property
    def dtype(self) -> torch.dtype:
        """The dtype most of the weights are stored in."""
        sizes: Counter[str] = Counter()
        for tensor in self._stored.values():
            sizes[tensor.dtype] += prod(tensor.shape)
        return STORED[sizes.most_common(1)[0][0]]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight in memory."""
        if name not in self._shapes:
            raise InputError(
                f"a weight must be one of Checkpoint.names, got {name!r}, which {self.folder} does not have"
            )
        return self._shapes[name]

    def tensor(self, name: str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Tensor:
        """One weight, by default in the dtype most are stored in."""
        return self._read([name], dtype, device)[name]

    def layer(
        self, layer: int, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """The weights of one decoder layer, for its ``load_state_dict``; no other layer is read."""
        layers = self.config.num_hidden_layers
        if not 0 <= layer < layers:
            raise InputError(f"layer must be in 0–{layers - 1} (this model has {layers}), got {layer}")
        prefix = f"model.layers.{layer}."
        weights = self._read([name for name in self._shapes if name.startswith(prefix)], dtype, device)
        return {name.removeprefix(prefix): weight for name, weight in weights.items()}

    def _read(self, names: Iterable[str], dtype: torch.dtype | None, device: torch.device | str) -> dict[str, Tensor]:
        """New memory for each weight, filled piece by piece, so that no weight is in memory twice."""
        dtype, weights = dtype or self.dtype, {}
        with _reader() as read:
            for name in names:
                weights[name] = whole = torch.empty(self.shape(name), dtype=dtype, device=device)
                for piece in self._pieces(name):
                    part = piece.of(whole)
                    part.copy_(read(self._stored[piece.name]).reshape(part.shape))
        return weights

    def _pieces(self, name: str) -> list[Piece]:
        return pieces(name, self._shapes[name], self.layout, self.config.head_size)

    def _share_embedding(self) -> None:
        """Accept one of the two names of tied embeddings, and a base model without a head.

        As in transformers, a head that is stored beside the embedding with other values is kept: they are not tied.
        """
        if not self.config.tie_word_embeddings:
            if HEAD not in self._stored:
                self._shapes.pop(HEAD)
            return
        head, embedding = self._stored.get(HEAD), self._stored.get(EMBEDDING)
        if head is not None and embedding is not None and not equal(head, embedding):
            self._warn(
                f"{head.name} in {head.file.name} differs from {embedding.name}, so they are not tied, although "
                "config.json says tie_word_embeddings; say false there to silence this"
            )
            self.config = self.config.replace(tie_word_embeddings=False)
            self._shapes[HEAD] = self._shapes[EMBEDDING]
        elif head is not None:
            self._stored.setdefault(EMBEDDING, self._stored.pop(HEAD))

    def _check_numbers(self) -> None:
        """Check that there are as many layers and experts as the config says, before their names are listed."""
        layers = {layer for name in self._stored if (layer := layer_of(name)) is not None}
        if len(layers) < self.config.num_hidden_layers:
            absent = next(layer for layer in count() if layer not in layers)
            self._check_piece(f"model.layers.{absent}.self_attn.q_proj.weight", ())
        self._check_piece(f"{_LAYER}block_sparse_moe.gate.weight", _router_shape(self.config))

    def _check(self) -> list[str]:
        """Check that every weight is stored with its shape; return the names of the other stored tensors."""
        expected: set[str] = set()
        for name, shape in self._shapes.items():
            whole = torch.empty(shape, device="meta")
            for piece in self._pieces(name):
                expected.add(piece.name)
                self._check_piece(piece.name, piece.stored_shape(whole))
        return sorted(self._stored.keys() - expected, key=len)

    def _check_piece(self, name: str, shape: tuple[int, ...]) -> None:
        stored = self._stored.get(name)
        if stored is not None and stored.shape == shape and stored.dtype in STORED:
            return
        kind = quantisation(self.config.model_extra or {}, (tensor.name for tensor in self._stored.values()))
        if kind is not None:
            raise InputError(quantised_sentence(self.folder, kind))
        if stored is None:
            raise InputError(self._missing(name))
        if stored.shape != shape:
            raise InputError(
                f"{location(name)} must have the shape {list(shape)} by config.json, got {list(stored.shape)} "
                f"({stored.name} in {stored.file})"
            )
        raise InputError(
            f"{location(name)} must be stored as one of {', '.join(STORED)}, got {stored.dtype} "
            f"({stored.name} in {stored.file}); get the model without quantisation"
        )

    def _missing(self, name: str) -> str:
        """The sentence about a tensor that is not stored."""
        layers = {layer for stored in self._stored if (layer := layer_of(stored)) is not None}
        if any(".switch_mlp." in stored for stored in self._stored):
            return f"{self.folder} has the layout of MLX, which is not read; get the model that it was made from"
        if not layers:
            some = ", ".join(sorted(tensor.name for tensor in self._stored.values())[:3]) or "none"
            return f"weights must have the names of a Mixtral, got {some} in {self.folder}; name another folder"
        layer, count = layer_of(name), self.config.num_hidden_layers
        if layer is not None and layer > max(layers):
            return (
                f"{self.folder} must have the weights of {count} layers, as its config says, got {len(layers)} of them "
                f"(the last is layer {max(layers)}); correct num_hidden_layers, or download the files that are missing"
            )
        return f"{location(name)} is missing: {self.folder} has no tensor {name}; download it again"

    def _warn_of_unused(self, unused: Sequence[str]) -> None:
        """Name what is not read: layers beyond the config's, tensors that a Mixtral lacks, an adapter, frequencies."""
        count = self.config.num_hidden_layers
        layers = {name: layer for name in unused if (layer := layer_of(name)) is not None and layer >= count}
        if layers:
            self._warn(
                f"layers {min(layers.values())}–{max(layers.values())} of {self.folder} are not read, since its config "
                f"says num_hidden_layers {count}"
            )
        if others := [self._stored[name] for name in unused if name not in layers]:
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            names = ", ".join(f"{tensor.name} ({tensor.file.name})" for tensor in others[:3])
            self._warn(f"{self.folder} has tensors that a Mixtral has no place for, which are not read: {names}{more}")
        if (self.folder / ADAPTER).is_file():
            self._warn(
                f"{self.folder} has an adapter beside its weights ({ADAPTER}), which is not applied; merge it with "
                "merge_and_unload() of the package peft"
            )
        self._compare_frequencies()

    def _compare_frequencies(self) -> None:
        """Warn where stored rotary frequencies are not those of the config, which count, as in transformers."""
        if not self._frequencies:
            return
        expected = Rope(self.config).frequencies(torch.empty(0))
        with _reader() as read:
            for tensor in self._frequencies.values():
                stored = read(tensor)
                if stored.shape != expected.shape or not torch.allclose(stored.float(), expected, rtol=0.01):
                    self._warn(
                        f"{tensor.name} in {tensor.file.name} differs from the rotary frequencies of config.json "
                        f"(rope_theta {self.config.rope_theta:g}), which are used, as in transformers"
                    )
                    return

    def _warn(self, sentence: str) -> None:
        warnings.warn(sentence, stacklevel=6)


def model_folder(name: str | Path) -> Path:
    """The folder of a model; "mini" is the embedded one.

    Raises:
        InputError: there is no such folder, or it is recognised as something else; the sentence says what helps.
    """
    folder = model_path(name)
    if not folder.is_dir():
        raise no_folder(folder, str(name))
    require_model(folder, has_weights)
    return folder


def _config(folder: Path, native: bool) -> MixtralConfig:
    """The config: params.json for native weights, if present; otherwise config.json."""
    if native and ((folder / PARAMS).is_file() or not (folder / "config.json").is_file()):
        return native_config(folder / PARAMS)
    return MixtralConfig.from_pretrained(folder)


def _layout(stored: Mapping[str, StoredTensor], native: bool) -> Layout | NativeLayout:
    if native:
        return "torrent" if any(name.endswith(".block_sparse_moe.w1") for name in stored) else "mistral"
    return "fused" if any(name.endswith(".experts.gate_up_proj") for name in stored) else "classic"


def _task_heads(stored: Mapping[str, StoredTensor]) -> dict[str, tuple[int, ...]]:
    """Weights of task heads are optional; the model compares their number of labels."""
    return {name: stored[name].shape for name in TASK_HEADS if name in stored}


def _expected_shapes(config: MixtralConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights of the language model; a tied head is the embedding. All layers have those of the first."""
    with torch.device("meta"):
        model = MixtralForCausalLM(config.model_copy(update={"num_hidden_layers": 1}))
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    parts = {name.removeprefix(_LAYER): shapes.pop(name) for name in list(shapes) if name.startswith(_LAYER)}
    layers = range(config.num_hidden_layers)
    return shapes | {f"model.layers.{layer}.{part}": shape for layer in layers for part, shape in parts.items()}


def _router_shape(config: MixtralConfig) -> tuple[int, int]:
    return config.num_local_experts, config.hidden_size


@contextmanager
def _reader() -> Iterator[Callable[[StoredTensor], Tensor]]:
    """A function that reads stored tensors, opening each file once; closes the files."""
    with ExitStack() as stack:
        files = {}

        def read(tensor: StoredTensor) -> Tensor:
            if tensor.file not in files:
                files[tensor.file] = stack.enter_context(open_file(tensor.file))
            return files[tensor.file].get_tensor(tensor.name)

        yield read
