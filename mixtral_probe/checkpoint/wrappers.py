"""Names of tensors as training programs save them: inside wrappers, or behind a prefix that all of them have.

``torch.compile`` writes ``_orig_mod.``, DistributedDataParallel ``module.``, FSDP ``_fsdp_wrapped_module.``, activation
checkpointing ``_checkpoint_wrapped_module.``, PEFT ``base_model.model.``, TRL ``pretrained_model.``.
"""

import re
from collections.abc import Iterable

from mixtral_probe.errors import InputError

_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"}
_ADAPTED = re.compile(r"\.(?:(?:lora|ia3|lokr|hada|oft|boft|vera|randlora)_\w+|modules_to_save)(?:\.|$)")
_NORMS = ("input_layernorm", "attention_norm")
"""One that every layer has, in the layouts of Hugging Face and of Mistral."""


def unwrapped_names(stored: Iterable[str]) -> dict[str, str]:
    """Return each stored name without wrappers and without the prefix that the layers have.

    Raises:
        InputError: an adapter is not merged, or there are several models.
    """
    names = {name: _unwrapped(name) for name in stored}
    if (adapted := next((name for name in names if _ADAPTED.search(name)), None)) is not None:
        raise InputError(
            f"an adapter must be merged into the weights it changes, got the tensor {adapted} beside them; save them "
            "again after model.merge_and_unload() of the package peft"
        )
    prefixes = sorted({prefix for name in names.values() if (prefix := _prefix(name)) is not None})
    if not prefixes or "" in prefixes:
        return names
    if len(prefixes) > 1:
        raise InputError(
            f"weights must be of one model, got names that begin with {' and with '.join(map(repr, prefixes))}; save "
            "the one to be read by itself"
        )
    return {name: plain.removeprefix(prefixes[0]) for name, plain in names.items()}


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _prefix(name: str) -> str | None:
    """Return what stands before the names of layers, by the name of a norm; None for other tensors."""
    parts = name.split(".")
    if len(parts) < 4 or parts[-4] != "layers" or parts[-2] not in _NORMS:
        return None
    before = parts[:-4]
    before = before[:-1] if before[-1:] == ["model"] else before
    return "".join(f"{part}." for part in before)
