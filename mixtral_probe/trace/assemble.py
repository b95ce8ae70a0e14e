"""Conversion of plain arrays to the parts of a trace: shapes checked, types cast, everything copied."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from mixtral_probe.errors import InputError
from mixtral_probe.trace.frames import document_frame, token_frame
from mixtral_probe.trace.meta import TraceMeta, utc_now


def expert_ids(values: np.ndarray) -> np.ndarray:
    """[L, T, K] int16, without last columns that hold only −1."""
    array = np.asarray(values)
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
    if logits is None or np.ndim(logits) != 3:
        raise InputError("num_experts must be given when there are no router_logits [L, T, E] to tell it")
    return int(np.shape(logits)[2])


def tokens(num_tokens: int, columns: Mapping[str, Any], **named: Any) -> pd.DataFrame:
    """Return the tokens table [T], built from its known columns."""
    return token_frame({**columns, **named}, num_tokens)


def documents(records: Sequence[Mapping[str, Any]] | None, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the documents table; without records, a row without labels for each document number that occurs."""
    if records is None:
        records = [{}] * (int(rows["document"].max()) + 1 if len(rows) else 0)
    return document_frame(records)


def expert_weights(values: np.ndarray | None, full_shape: tuple[int, ...], ids: np.ndarray) -> np.ndarray | None:
    """[L, T, K] float32, without the last columns that were dropped from the ids."""
    weights = floats("expert_weights", values)
    if weights is not None and weights.shape != full_shape:
        raise InputError(f"expert_weights must have the shape of expert_ids, {full_shape}, got {weights.shape}")
    return weights if weights is None else np.ascontiguousarray(weights[..., : ids.shape[2]])


def floats(name: str, values: np.ndarray | None) -> np.ndarray | None:
    """Return a float32 copy, or None."""
    if values is None:
        return None
    try:
        return np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array of numbers, got something else") from None


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
