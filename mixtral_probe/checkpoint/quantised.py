"""Weights in fewer bits, which are not read: what they are, by the config or by their names."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_METHODS = {
    "awq": "AWQ",
    "gptq": "GPTQ",
    "compressed-tensors": "compressed-tensors (vLLM, llm-compressor)",
    "bitsandbytes": "bitsandbytes",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8 (FBGEMM)",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "eetq": "EETQ",
    "quanto": "Quanto",
    "torchao": "torchao",
    "mxfp4": "MXFP4",
    "modelopt": "ModelOpt",
    "mlx": "MLX",
}
_BITS = {"load_in_4bit": 4, "load_in_8bit": 8, "_load_in_4bit": 4, "_load_in_8bit": 8}
_NAMES = (
    (re.compile(r"\.(qweight|qzeros|g_idx)$"), "AWQ or GPTQ"),
    (re.compile(r"\.(weight_packed|weight_shape)$"), "compressed-tensors (vLLM, llm-compressor)"),
    (re.compile(r"\.(absmax|quant_map|SCB)$|quant_state|weight_format$"), "bitsandbytes"),
    (re.compile(r"\.(weight_scale|weight_scale_inv|weight_scale_2)$"), "FP8 or integers with scales"),
    (re.compile(r"\.(scales|biases)$"), "MLX"),
)


def quantisation(fields: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return how weights are quantised, such as "AWQ, 4 bits"; None where nothing says that they are.

    Args:
        fields: of a config beyond those of Mixtral.
        names: of the stored tensors.
    """
    mlx = fields.get("quantization")
    for name in ("quantization_config", "compression_config"):
        if isinstance(settings := fields.get(name), Mapping) and settings:
            return _of_config(settings, isinstance(mlx, Mapping))
    if isinstance(mlx, Mapping):
        return _of_config(mlx, True)
    stored = list(names)
    return next((kind for pattern, kind in _NAMES for name in stored if pattern.search(name)), None)


def quantised_sentence(folder: object, kind: str) -> str:
    """Return what to do about a folder of quantised weights."""
    return (
        f"weights must be in float32, bfloat16 or float16, got {folder} with weights quantised by {kind}, which are "
        "not read; get the model that they were made from, without quantisation"
    )


def _of_config(settings: Mapping[str, Any], mlx: bool) -> str:
    loaded = "bitsandbytes" if settings.keys() & _BITS.keys() else settings.get("format") or "an unnamed method"
    method = settings.get("quant_method") or ("mlx" if mlx else loaded)
    bits = next((settings[name] for name in ("bits", "w_bit", "nbits") if isinstance(settings.get(name), int)), None)
    bits = bits or next((number for name, number in _BITS.items() if settings.get(name) is True), None)
    return _METHODS.get(str(method), str(method)) + ("" if bits is None else f", {bits} bits")
