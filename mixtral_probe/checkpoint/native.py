"""The two layouts of Mistral: ``consolidated.NN.pt`` as first released, and ``consolidated.safetensors``.

Both have a ``params.json``, the names of Mistral's code, and interleaved rotary pairs, where the Hugging Face layouts
split each head in two halves. The **torrent** layout stacks a layer's experts in
``block_sparse_moe.w1``, ``.w3`` [E·I, C] and ``.w2`` [E·I, C], transposed; the **mistral** layout (mistral-inference)
has ``feed_forward.experts.{e}.w1.weight`` … as the classic one.
"""

import re
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from torch import Tensor

from mixtral_probe.checkpoint.options import STORED
from mixtral_probe.config import DEFAULT_ROPE_THETA, MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.json_files import read_json_object
from mixtral_probe.reading import one_sentence, require_file

PARAMS = "params.json"
_OBJECT = re.compile(r"GLOBAL ([\w.]+)")
"""In the errors of torch, what would have been called."""
FILE = re.compile(r"consolidated(?:[.-][\w-]+)?\.(?:pt|pth|safetensors)")
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_SINGLES = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PARTS = (
    ("attention.wq.", "self_attn.q_proj."),
    ("attention.wk.", "self_attn.k_proj."),
    ("attention.wv.", "self_attn.v_proj."),
    ("attention.wo.", "self_attn.o_proj."),
    ("attention_norm.", "input_layernorm."),
    ("ffn_norm.", "post_attention_layernorm."),
    ("feed_forward.", "block_sparse_moe."),
)
_FIELDS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
    "num_attention_heads": "n_heads",
    "vocab_size": "vocab_size",
    "rms_norm_eps": "norm_eps",
    "num_local_experts": "num_experts",
    "num_experts_per_tok": "num_experts_per_tok",
}
"""Required config fields and their names in params.json."""
_OPTIONAL = {
    "num_key_value_heads": "n_kv_heads",
    "head_dim": "head_dim",
    "rope_theta": "rope_theta",
    "max_position_embeddings": "max_seq_len",
    "sliding_window": "sliding_window",
}
_DEFAULTS = {"rope_theta": DEFAULT_ROPE_THETA, "max_position_embeddings": 32768, "num_key_value_heads": None}
"""Those of Mistral's code; params.json lacks the number of positions of the model."""


def native_files(folder: Path) -> list[str]:
    """Names of the native weight files of a folder, in order."""
    return sorted(path.name for path in folder.iterdir() if FILE.fullmatch(path.name))


def native_name(stored: str) -> str:
    """Mistral's name of a tensor → the one of the classic layout; flat experts keep ``block_sparse_moe.w1``."""
    match = _LAYER.fullmatch(stored)
    if match is None:
        return _SINGLES.get(stored, stored)
    part = match[2]
    for theirs, ours in _PARTS:
        if part.startswith(theirs):
            part = ours + part.removeprefix(theirs)
            break
    return f"model.layers.{match[1]}.{part}"


def native_config(path: Path) -> MixtralConfig:
    """The config of a ``params.json`` with names of Mistral or of Hugging Face.

    Raises:
        InputError: it is not a JSON object, lacks a size, or has no experts.
    """
    try:
        fields = read_json_object(path)
    except FileNotFoundError:
        raise InputError(
            f"weights in a layout of Mistral need a {PARAMS} beside them, got none at {path}; download it"
        ) from None
    with one_sentence(f"{PARAMS} must describe a Mixtral model", path, "correct it or download it again"):
        return MixtralConfig.from_dict(_config_fields(fields, path))


def _config_fields(fields: dict[str, Any], path: Path) -> dict[str, Any]:
    fields = fields | (fields.get("moe") or {})
    known: dict[str, Any] = dict(_DEFAULTS)
    for name, theirs in (_FIELDS | _OPTIONAL).items():
        value = fields.get(name, fields.get(theirs))
        if value is not None:
            known[name] = int(value) if isinstance(value, str) else value
        elif name in _FIELDS:
            raise InputError(f"{PARAMS} must give {theirs} (or {name}), got neither in {path}; add it")
    return known


class TorchFile:
    """A ``.pt`` file with the interface of an opened safetensors file; its tensors are memory-mapped.

    Raises:
        InputError: it is missing, broken, or contains anything but tensors by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _refuse_compressed(path)
            # the format of before torch 1.6 cannot be mapped
            mapped = is_zipfile(path)
            self._tensors = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
        except FileNotFoundError:
            raise InputError(f"the weights file {path.name} is missing from {path.parent}; download it again") from None
        except Exception as error:  # torch raises many types for a broken file
            raise _unreadable(path, error) from None
        if not isinstance(self._tensors, dict):
            raise _no_tensors(path, f"a {type(self._tensors).__name__}")
        for name, value in self._tensors.items():
            if not isinstance(value, Tensor):
                raise _no_tensors(path, f"a {type(value).__name__} named {name!r}")

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors = {}

    def keys(self) -> list[str]:
        """The names of the tensors."""
        return list(self._tensors)

    def get_slice(self, name: str) -> "TorchSlice":
        """Shape and dtype of one tensor."""
        return TorchSlice(self._tensors[name])

    def get_tensor(self, name: str) -> Tensor:
        """One tensor, a view of the file."""
        return self._tensors[name]


def _unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that torch does not read with ``weights_only``."""
    text = str(error)
    if match := _OBJECT.search(text):
        return InputError(
            f"{path} must be a whole file of weights and nothing else, got an object that calls {match[1]}, which is "
            "not done; save the state_dict() of the model alone"
        )
    plain = text and not text.startswith("Weights only load failed")
    reason = text.splitlines()[0].rstrip(".") if plain else "another content"
    return InputError(f"{path} must be a whole file of weights and nothing else ({reason}); download or copy it again")


def _no_tensors(path: Path, got: str) -> InputError:
    return InputError(
        f"{path} must hold tensors by their names and nothing else, got {got}; save the state_dict() of the model alone"
    )


def _refuse_compressed(path: Path) -> None:
    """Raise ValueError for a zip archive with compressed parts: PyTorch stores them plain, at their size on disk."""
    require_file(path)
    if is_zipfile(path):
        with ZipFile(path) as archive:
            if any(part.compress_type != ZIP_STORED for part in archive.infolist()):
                raise ValueError("its parts are compressed")


class TorchSlice:
    """Shape and dtype of a tensor, with the interface of safetensors."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        """Its shape."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """Its dtype: F32, BF16, …"""
        dtype = self._tensor.dtype
        return next((code for code, known in STORED.items() if known == dtype), str(dtype).removeprefix("torch."))
