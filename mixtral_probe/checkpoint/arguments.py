"""Arguments of transformers' ``from_pretrained``, in terms of those here."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError

WITHOUT_EFFECT = (
    "local_files_only", "force_download", "resume_download", "cache_dir", "proxies", "token", "use_auth_token",
    "revision", "code_revision", "trust_remote_code", "low_cpu_mem_usage", "use_safetensors", "weights_only",
    "use_kernels", "offload_folder", "offload_state_dict", "offload_buffers", "from_tf", "from_flax", "_fast_init",
    "adapter_kwargs",
)  # fmt: skip
"""What goes without saying here: a folder on this machine, read without running code, one layer after the other."""
NOT_SAVED = {
    "save_function": None, "push_to_hub": False, "token": None, "variant": None, "save_peft_format": True,
    "repo_id": None, "commit_message": None, "private": None, "use_auth_token": None, "create_pr": False,
}  # fmt: skip
"""Arguments of ``save_pretrained`` of transformers that change no file here, and the values that ask for nothing."""
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
    if (named := found.pop("pretrained_model_name_or_path", None)) is not None:
        _set(found, "folder", named, f"pretrained_model_name_or_path={named!r}")
    if "state_dict" in found:
        raise InputError("from_pretrained reads weights from a folder, got state_dict; use load_state_dict of a model")
    if found["folder"] is None:
        raise InputError("from_pretrained reads a folder, got none; name one, or 'mini' for the embedded model")
    if inner := found.pop("subfolder", ""):
        found["folder"] = Path(found["folder"]) / inner
    return found


def require_without_effect(arguments: Mapping[str, Any]) -> None:
    """Raise InputError unless further arguments of ``save_pretrained`` are in ``NOT_SAVED`` and ask for nothing."""
    for name, value in arguments.items():
        if name not in NOT_SAVED:
            raise InputError(f"arguments of save_pretrained must be its own, got {name!r}{similar(name, NOT_SAVED)}")
        if name != "save_function" and value and value != NOT_SAVED[name]:
            raise InputError(f"a model is saved in a folder only, got {name}={value!r}; leave it out")


def similar(name: str, known: Iterable[str]) -> str:
    """Return what to do about an unknown argument: another name, where one is similar."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else "; leave it out"


def _set(arguments: dict[str, Any], name: str, value: Any, other: str) -> None:
    """Set an argument that another name stands for."""
    if arguments.get(name) not in (None, value):
        raise InputError(f"{other} is another name of {name}, got {name}={arguments[name]!r} too; give one")
    arguments[name] = value
