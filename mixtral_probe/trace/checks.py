"""The rules of a trace. Each broken rule is one InputError sentence."""

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike

from mixtral_probe.errors import InputError
from mixtral_probe.trace.attention import AttentionRecord, layout, windows_of
from mixtral_probe.trace.frames import NULLABLE, PHASES, REQUIRED, TOKEN_COLUMNS, window_starts
from mixtral_probe.trace.meta import TraceMeta


def check_tokens(tokens: pd.DataFrame, num_documents: int) -> None:
    """Check columns and dtypes, and that rows are in the order document, chunk, position; no padding."""
    _check_columns(tokens)
    document, chunk, position = (tokens[name].to_numpy() for name in ("document", "chunk", "position"))
    if not len(document):
        return
    if document.min() < 0 or document.max() >= num_documents:
        wrong = document.min() if document.min() < 0 else document.max()
        raise InputError(f"the document of a token must be in 0–{num_documents - 1}, got {wrong}")
    if (np.diff(document) < 0).any():
        row = int(np.argmax(np.diff(document) < 0)) + 1
        raise InputError(
            f"the tokens of a document must be contiguous and documents in order, got "
            f"document {document[row]} after document {document[row - 1]} at row {row}; sort the rows by document"
        )
    _check_windows(document, chunk, position)
    if tokens["token_id"].min() < -1:
        raise InputError(f"a token id must be at least 0 (−1 = unknown), got {tokens['token_id'].min()}")


def _check_columns(tokens: pd.DataFrame) -> None:
    if tuple(tokens.columns) != TOKEN_COLUMNS:
        raise InputError(f"tokens must have the columns {', '.join(TOKEN_COLUMNS)}, got {list(tokens.columns)}")
    expected = REQUIRED | dict.fromkeys(NULLABLE, "Int32") | {"special": "bool", "nll": "float32"}
    expected |= {"piece": "category", "phase": "category"}
    for name, dtype in expected.items():
        if str(tokens[name].dtype) != dtype:
            raise InputError(f"token column {name!r} must be {dtype}, got {tokens[name].dtype}")
    phase = tokens["phase"].cat
    if unknown := {*map(str, phase.categories)} - set(PHASES):
        raise InputError(f"a token's phase must be 'prefill' or 'decode', got {min(unknown)!r}")
    if (phase.codes < 0).any():
        raise InputError("a token's phase must be 'prefill' or 'decode', got none")


def _check_windows(document: np.ndarray, chunk: np.ndarray, position: np.ndarray) -> None:
    same = document[1:] == document[:-1]
    if chunk.min() < 0 or (same & (np.diff(chunk) < 0)).any():
        raise InputError("chunks must count from 0 and never fall within a document; sort the rows")
    inside = ~window_starts(document, chunk)[1:]
    if position.min() < 0 or (inside & (np.diff(position) <= 0)).any():
        row = int(np.argmax(inside & (np.diff(position) <= 0))) + 1
        raise InputError(
            f"positions must be at least 0 and rise within a document and chunk, "
            f"got {position[row]} after {position[row - 1]} at row {row}; leave padding out and sort the rows"
        )


def check_documents(documents: pd.DataFrame) -> None:
    """Check that `document` counts 0, 1, 2, … and `id` follows it."""
    if list(documents.columns[:2]) != ["document", "id"]:
        raise InputError(f"documents must begin with the columns document, id, got {list(documents.columns)}")
    if not np.array_equal(documents["document"].to_numpy(), np.arange(len(documents))):
        raise InputError("documents must be numbered 0, 1, 2, … in order, got other numbers")


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Check the shape and dtype of one array."""
    if array.shape != shape:
        raise InputError(f"{name} must have the shape {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise InputError(f"{name} must be {np.dtype(dtype)}, got {array.dtype}")


def check_expert_ids(ids: np.ndarray, num_experts: int, rows: np.ndarray | None = None) -> None:
    """Check ids [L, T, K]: every one is in 0…E−1, or −1 behind all chosen ones; no expert twice for one token.

    Works layer by layer, so that a memory-mapped array is read once and little memory is taken. `rows` [T] are the
    numbers of the tokens, counted from 0 where absent.
    """
    for layer, chosen in enumerate(ids):
        if not chosen.size:
            continue
        low, high = int(chosen.min()), int(chosen.max())
        if low < -1 or high >= num_experts:
            wrong = low if low < -1 else high
            raise InputError(f"expert ids must be in 0–{num_experts - 1} (−1 = none), got {wrong} in layer {layer}")
        _check_choice(chosen, layer, rows)


def _check_choice(chosen: np.ndarray, layer: int, rows: np.ndarray | None) -> None:
    columns = list(np.ascontiguousarray(chosen.T))  # K of [T]
    for rank in range(1, len(columns)):
        if ((columns[rank - 1] < 0) & (columns[rank] >= 0)).any():
            raise InputError(f"−1 (no expert) must follow all chosen experts, got it before one in layer {layer}")
        for earlier in columns[:rank]:
            twice = (columns[rank] == earlier) & (earlier >= 0)
            if twice.any():
                row = int(np.argmax(twice))
                token = row if rows is None else int(rows[row])
                raise InputError(
                    f"the experts of a token must differ, got {earlier[row]} twice for token {token} in layer {layer}"
                )


def check_weights(weights: np.ndarray, ids: np.ndarray) -> None:
    """Check that weights [L, T, K] are 0 wherever no expert was chosen. Weights are read only where ids are padded."""
    for layer, chosen in enumerate(ids):
        if chosen.size and chosen.min() < 0 and weights[layer][chosen < 0].any():
            raise InputError(f"the weight must be 0 where no expert was chosen (id −1), got another in layer {layer}")


def check_arrays(
    ids: np.ndarray, weights: np.ndarray | None, logits: np.ndarray | None, meta: TraceMeta, num_tokens: int
) -> None:
    """Check the three routing arrays against `meta` and the number of tokens T."""
    layers, experts = meta.num_layers, meta.num_experts
    check_shape("expert_ids", ids, (layers, num_tokens, meta.num_experts_per_tok), np.int16)
    check_expert_ids(ids, experts)
    if weights is not None:
        check_shape("expert_weights", weights, ids.shape, np.float32)
        check_weights(weights, ids)
    if logits is not None:
        check_shape("router_logits", logits, (layers, num_tokens, experts), np.float32)


def check_attention(record: AttentionRecord, tokens: pd.DataFrame, num_documents: int, meta: TraceMeta) -> None:
    """Check that every planned map and sum exists, in the shape of its window."""
    record.plan.check(meta.num_layers, meta.num_heads)
    tensors = layout(record.plan, windows_of(tokens), meta.num_layers, num_documents, meta.num_heads or 0)
    for name, (code, shape) in tensors.items():
        if name not in record.tensors:
            raise InputError(f"the recorded attention must hold {name} by its plan, got none")
        check_shape(f"attention {name}", record.tensors[name], shape, np.dtype(code))
