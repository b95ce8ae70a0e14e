"""Writing a safetensors file tensor by tensor, so that a model being saved is never held twice.

The format (https://huggingface.co/docs/safetensors): eight bytes with the length of the header, the header as JSON
{name: {dtype, shape, data_offsets}}, then the bytes of the tensors one after the other, little-endian and row-major.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mixtral_probe.checkpoint.options import STORED

_PREFIX = struct.Struct("<Q")
_CODES = {dtype: code for code, dtype in STORED.items()}
_ALIGNMENT = 64
"""Where the weights begin: a reader that maps the file then gets rows where the fastest kernels want them."""


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Write the tensors, cast to ``dtype`` one at a time."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[name] = {"dtype": _CODES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(_PREFIX.size + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(_PREFIX.pack(len(text)) + text)
        for tensor in tensors.values():
            plain = tensor.detach().to(device="cpu", dtype=dtype).contiguous()
            file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
