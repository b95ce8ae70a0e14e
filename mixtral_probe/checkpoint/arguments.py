"""Arguments of transformers' ``from_pretrained``, in terms of those here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError

WITHOUT_EFFECT = (
    "local_files_only", "force_download", "resume_download", "cache_dir", "proxies", "token", "use_auth_token",
    "revision", "code_revision", "trust_remote_code", "low_cpu_mem_usage", "use_safetensors", "weights_only",
    "use_kernels",
)  # fmt: skip
"""What goes without saying here: a folder on this machine, read without running code, one layer after the other."""
_NUMERICS = {"eager": "reference"} | dict.fromkeys(
    ("sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"), "fast"
)  # torch's kernel chooses a flash attention where there is one
_QUANTISED = ("quantization_config", "load_in_4bit", "load_in_8bit")


def translate(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same arguments under the names here: ``torch_dtype``, ``attn_implementation``; others stay.

    Raises:
        InputError: two names of one argument, another attention than the two here, or quantisation.
    """
    found = {name: value for name, value in arguments.items() if name not in WITHOUT_EFFECT}
    for name in _QUANTISED:
        if found.pop(name, False):
            raise InputError(f"weights are not quantised here, got {name}; leave it out, or use dtype='bfloat16'")
    if (attention := found.pop("attn_implementation", None)) is not None:
        if attention not in _NUMERICS:
            raise InputError(
                f"attn_implementation must be one of {', '.join(_NUMERICS)}, got {attention!r}; leave it out"
            )
        _set(found, "numerics", _NUMERICS[attention], f"attn_implementation={attention!r}")
    if (dtype := found.pop("torch_dtype", None)) is not None:
        _set(found, "dtype", dtype, f"torch_dtype={dtype!r}")
    if inner := found.pop("subfolder", ""):
        found["folder"] = Path(found["folder"]) / inner
    return found


def _set(arguments: dict[str, Any], name: str, value: Any, other: str) -> None:
    """Set an argument that another name stands for."""
    if arguments.get(name) not in (None, value):
        raise InputError(f"{other} is another name of {name}, got {name}={arguments[name]!r} too; give one")
    arguments[name] = value
