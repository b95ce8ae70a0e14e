"""Conversion of plain arrays to the parts of a trace: shapes checked, types cast, everything copied."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from mixtral_probe.errors import InputError
from mixtral_probe.trace import finite
from mixtral_probe.trace.frames import document_frame, token_frame
from mixtral_probe.trace.meta import TraceMeta, utc_now


def plain(name: str, values: Any) -> np.ndarray:
    """Return an array of numbers; tensors of torch are copied to the CPU, and a list of L of them is stacked.

    Raises:
        InputError: there are no numbers, or the entries of a list have different shapes.
    """
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        layers = [plain(name, value) for value in values]
        if len(shapes := {layer.shape for layer in layers}) > 1:
            raise InputError(f"{name} must have one shape in all layers, got {' and '.join(map(str, sorted(shapes)))}")
        return np.stack(layers)
    try:
        array = np.asarray(_of_tensor(values) if hasattr(values, "detach") else values)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} must be an array of numbers, got {type(values).__name__} ({reason})") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be an array of numbers, got {array.dtype}")
    return array


def _of_tensor(tensor: Any) -> Any:
    """Return a tensor of torch as NumPy sees it: without gradient, on the CPU, dense, bfloat16 and less as float32."""
    tensor = tensor.detach()
    tensor = (tensor if str(tensor.layout) == "torch.strided" else tensor.to_dense()).cpu()
    if tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float16", "torch.float32", "torch.float64"):
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()


def check_axes(ids: np.ndarray, columns: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None]) -> None:
    """Raise InputError where tokens come before layers, [T, L, K] for [L, T, K].

    Args:
        ids: the expert ids.
        columns: per-token columns [T] by name, None where absent.
        arrays: weights and logits [L, T, …] by name, None where absent.
    """
    layers, tokens, chosen = ids.shape
    for name, values in columns.items():
        if layers != tokens and _length(values) == layers:
            raise InputError(
                f"column {name!r} must have one value per token, {tokens}, got {layers}, the first axis of expert_ids, "
                f"{ids.shape}; give [layers, tokens, chosen experts]: expert_ids.swapaxes(0, 1) has "
                f"{(tokens, layers, chosen)}"
            )
    for name, array in arrays.items():
        if layers != tokens and array is not None and array.shape[:2] == (tokens, layers):
            raise InputError(
                f"expert_ids and {name} must both have layers first, then tokens, got the shapes {ids.shape} and "
                f"{array.shape}; exchange the axes of one of them with swapaxes(0, 1)"
            )


def _length(values: Any) -> int | None:
    try:
        return len(values)
    except TypeError:  # a single value, or none
        return None


def expert_ids(values: Any) -> np.ndarray:
    """[L, T, K] int16, without last columns that hold only −1."""
    array = plain("expert_ids", values)
    if array.ndim != 3 or 0 in (array.shape[0], array.shape[2]):
        raise InputError(f"expert_ids must have the shape [layers, tokens, chosen experts], got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"expert_ids must be integers, got {array.dtype}")
    if array.size and (array.min() < -1 or array.max() > np.iinfo(np.int16).max):
        raise InputError(f"expert_ids must be −1 or expert numbers, got values from {array.min()} to {array.max()}")
    used = np.flatnonzero((array >= 0).any(axis=(0, 1)))
    return np.array(array[..., : used[-1] + 1 if used.size else 1], dtype=np.int16)


def num_experts(count: int | None, logits: np.ndarray | None) -> int:
    """Return E: `count`, or the length of the last axis of the logits."""
    if count is not None:
        return int(count)
    if logits is None:
        raise InputError("num_experts must be given when there are no router_logits [L, T, E] to tell it")
    return int(np.shape(logits)[2])


def tokens(num_tokens: int, columns: Mapping[str, Any], **named: Any) -> pd.DataFrame:
    """Return the tokens table [T], built from its known columns, each an array, a list or a tensor of torch."""
    given = {**columns, **named}
    tensors = {name: plain(name, values) for name, values in given.items() if hasattr(values, "detach")}
    return token_frame(given | tensors, num_tokens)


def documents(records: Sequence[Mapping[str, Any]] | None, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the documents table; without records, a row without labels for each document number that occurs."""
    if records is None:
        records = [{}] * (int(rows["document"].max()) + 1 if len(rows) else 0)
    return document_frame(records)


def expert_weights(weights: np.ndarray | None, full_shape: tuple[int, ...], ids: np.ndarray) -> np.ndarray | None:
    """[L, T, K] float32, without the last columns that were dropped from the ids."""
    if weights is not None and weights.shape != full_shape:
        raise InputError(f"expert_weights must have the shape of expert_ids, {full_shape}, got {weights.shape}")
    return weights if weights is None else np.ascontiguousarray(weights[..., : ids.shape[2]])


def floats(name: str, values: np.ndarray | None) -> np.ndarray | None:
    """Return a float32 copy, or None."""
    if values is None:
        return None
    array = np.array(plain(name, values), dtype=np.float32)
    if array.ndim != 3:
        raise InputError(f"{name} must have three axes, layers, tokens and experts, got the shape {array.shape}")
    return array


def logits(router_logits: Any, router_probabilities: Any) -> np.ndarray | None:
    """[L, T, E] float32 of logits or of the logarithm of probabilities; None without both.

    Raises:
        InputError: both are given, or logits that are probabilities.
    """
    if router_logits is not None and router_probabilities is not None:
        raise InputError("a trace has router_logits or router_probabilities, got both; give one of them")
    probabilities = floats("router_probabilities", router_probabilities)
    if probabilities is not None:
        return finite.log_probabilities(probabilities)
    values = floats("router_logits", router_logits)
    if values is not None and finite.are_probabilities(values):
        raise finite.probabilities_refused()
    return values


def meta(
    ids: np.ndarray, experts: int, moe_layers: Sequence[int] | None, fields: Mapping[str, Any] | None
) -> TraceMeta:
    """Return the meta that describes the arrays, with further fields of TraceMeta."""
    sizes = {"num_layers": ids.shape[0], "num_experts": experts, "num_experts_per_tok": ids.shape[2]}
    layers = None if moe_layers is None else tuple(int(layer) for layer in moe_layers)
    try:
        return TraceMeta(**{"created": utc_now(), **(fields or {}), **sizes, "moe_layers": layers})
    except ValidationError as error:
        raise InputError(f"meta must fit TraceMeta, got: {error.errors()[0]['msg']}") from None
