"""Plain arrays into the parts of a trace: shapes checked, types cast, everything copied."""

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
    given = np.asarray(values)
    if given.ndim != 3 or 0 in (given.shape[0], given.shape[2]):
        raise InputError(f"expert_ids must have the shape [layers, tokens, chosen experts], got {given.shape}")
    if not np.issubdtype(given.dtype, np.integer):
        raise InputError(f"expert_ids must be integers, got {given.dtype}")
    if given.size and (given.min() < -1 or given.max() > np.iinfo(np.int16).max):
        raise InputError(f"expert_ids must be −1 or expert numbers, got values from {given.min()} to {given.max()}")
    used = np.flatnonzero((given >= 0).any(axis=(0, 1)))
    return np.array(given[..., : used[-1] + 1 if used.size else 1], dtype=np.int16)


def num_experts(count: int | None, logits: np.ndarray | None) -> int:
    """E, as told or from the logits' last axis."""
    if count is not None:
        return int(count)
    if logits is None or np.ndim(logits) != 3:
        raise InputError("num_experts must be given when there are no router_logits [L, T, E] to tell it")
    return int(np.shape(logits)[2])


def tokens(num_tokens: int, columns: Mapping[str, Any], **named: Any) -> pd.DataFrame:
    """The tokens table [T] from its known columns."""
    return token_frame({**columns, **named}, num_tokens)


def documents(records: Sequence[Mapping[str, Any]] | None, rows: pd.DataFrame) -> pd.DataFrame:
    """The documents table; without records, one without labels for each document number that occurs."""
    if records is None:
        records = [{}] * (int(rows["document"].max()) + 1 if len(rows) else 0)
    return document_frame(records)


def expert_weights(values: np.ndarray | None, given_shape: tuple[int, ...], ids: np.ndarray) -> np.ndarray | None:
    """[L, T, K] float32, cut as the ids were."""
    weights = floats("expert_weights", values)
    if weights is not None and weights.shape != given_shape:
        raise InputError(f"expert_weights must have the shape of expert_ids, {given_shape}, got {weights.shape}")
    return weights if weights is None else np.ascontiguousarray(weights[..., : ids.shape[2]])


def floats(name: str, values: np.ndarray | None) -> np.ndarray | None:
    """A float32 copy, or None."""
    if values is None:
        return None
    try:
        return np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array of numbers, got something else") from None


def meta(
    ids: np.ndarray, experts: int, moe_layers: Sequence[int] | None, fields: Mapping[str, Any] | None
) -> TraceMeta:
    """The meta that goes with the arrays, plus the fields that were given."""
    sizes = {"num_layers": ids.shape[0], "num_experts": experts, "num_experts_per_tok": ids.shape[2]}
    layers = None if moe_layers is None else tuple(int(layer) for layer in moe_layers)
    try:
        return TraceMeta(**{"created": utc_now(), **(fields or {}), **sizes, "moe_layers": layers})
    except ValidationError as error:
        raise InputError(f"meta must fit TraceMeta, got: {error.errors()[0]['msg']}") from None
