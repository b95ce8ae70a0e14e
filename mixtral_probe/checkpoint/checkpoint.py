"""Reading a model folder: weights by their names in memory, one tensor or one layer at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from mixtral_probe.checkpoint.files import StoredTensor, is_native, open_file, stored_tensors
from mixtral_probe.checkpoint.names import EMBEDDING, HEAD, TASK_HEADS, Layout, NativeLayout, Piece, location, pieces
from mixtral_probe.checkpoint.native import PARAMS, native_config
from mixtral_probe.checkpoint.options import STORED
from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.resources import data_path


class Checkpoint:
    """The config and the weights of a model folder: classic, fused or one of Mistral's, in one file or in shards.

    Opening reads headers only, and checks that every weight of the config is stored with its shape. Weights have their
    names in memory, whatever the layout. No file stays open between calls, and returned tensors are copies.

    Args:
        folder: a model folder, or "mini" for the embedded model.

    Raises:
        InputError: the folder, its config or its weights are broken; the message names layer, expert, tensor and file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = model_folder(folder)
        native = is_native(self.folder)
        self.config = _config(self.folder, native)
        self._stored = stored_tensors(self.folder)
        self._shapes = _expected_shapes(self.config) | _task_heads(self._stored)
        self.layout: Layout | NativeLayout = _layout(self._stored, native)
        """The layout of names and experts."""
        self._share_embedding()
        self._check()

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
        """Accept one of the two names of tied embeddings, and a base model without a head."""
        if self.config.tie_word_embeddings:
            head = self._stored.pop(HEAD, None)
            if head is not None:
                self._stored.setdefault(EMBEDDING, head)
        elif HEAD not in self._stored:
            self._shapes.pop(HEAD)

    def _check(self) -> None:
        expected: set[str] = set()
        for name, shape in self._shapes.items():
            whole = torch.empty(shape, device="meta")
            for piece in self._pieces(name):
                expected.add(piece.name)
                self._check_piece(piece.name, piece.stored_shape(whole))
        if extra := sorted(self._stored.keys() - expected, key=len):
            stored, more = self._stored[extra[0]], f" and {len(extra) - 1} more" if len(extra) > 1 else ""
            raise InputError(
                f"config.json has no place for {location(extra[0])}{more} ({stored.name} in {stored.file}): "
                f"it says {self.config.num_hidden_layers} layers, {self.config.num_local_experts} experts; correct it"
            )

    def _check_piece(self, name: str, shape: tuple[int, ...]) -> None:
        stored = self._stored.get(name)
        if stored is None:
            raise InputError(f"{location(name)} is missing: {self.folder} has no tensor {name}; download it again")
        if stored.shape != shape:
            raise InputError(
                f"{location(name)} must have the shape {list(shape)} by config.json, got {list(stored.shape)} "
                f"({stored.name} in {stored.file})"
            )
        if stored.dtype not in STORED:
            raise InputError(
                f"{location(name)} must be stored as one of {', '.join(STORED)}, got {stored.dtype} "
                f"({stored.name} in {stored.file}); get the model without quantisation"
            )


def model_folder(name: str | Path) -> Path:
    """The folder of a model; "mini" is the embedded one.

    Raises:
        InputError: there is no such folder.
    """
    folder = data_path("mixtral-mini") if name == "mini" else Path(name).expanduser()
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "a path that does not exist"
        raise InputError(f"a model must be a folder, or 'mini' for the embedded one, got {folder}, {problem}")
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
    """Shapes of all weights of the language model; a tied head is the embedding."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in MixtralForCausalLM(config).named_parameters()}


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
