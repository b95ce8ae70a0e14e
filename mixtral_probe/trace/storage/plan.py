"""What a run will write, known before it starts: shapes, bytes on disk, and a fingerprint of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd

from mixtral_probe.trace import checks
from mixtral_probe.trace.attention import AttentionPlan, attention_metadata, layout, windows_of
from mixtral_probe.trace.fingerprint import fingerprint
from mixtral_probe.trace.frames import document_frame, token_frame
from mixtral_probe.trace.meta import TraceMeta
from mixtral_probe.trace.storage import tensor_file

TOKEN_ROW_BYTES = 32
"""Upper estimate of one row of tokens.parquet; 9 was measured on English-like text with 4,096 pieces."""

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class RunPlan:
    """A run before it starts: its texts, its model's sizes, and what will be recorded."""

    documents: pd.DataFrame
    tokens: pd.DataFrame
    meta: TraceMeta
    attention: AttentionPlan | None
    record_logits: bool
    added_bytes: int = 0
    """Of files that are added to those of the trace at the end."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", document_frame(self.documents.to_dict("records")))
        object.__setattr__(self, "tokens", token_frame(dict(self.tokens.items()), len(self.tokens)))
        checks.check_tokens(self.tokens, len(self.documents))
        if self.attention is not None:
            self.attention.check(self.meta.num_layers, self.meta.num_heads)

    @property
    def arrays(self) -> Shapes:
        """The arrays that become part of the trace as they are."""
        return array_shapes(self.meta, len(self.tokens), self.record_logits)

    @property
    def scratch(self) -> Shapes:
        """The arrays that the finished trace stores in its tokens, or not at all."""
        rows = (len(self.tokens),)
        return {"nll": ("<f4", rows), "predicted_id": ("<i4", rows), "done": ("|b1", (len(self.documents),))}

    @property
    def attention_layout(self) -> Shapes | None:
        """The tensors of the attention file; None without an attention plan."""
        if self.attention is None:
            return None
        meta, windows = self.meta, windows_of(self.tokens)
        return layout(self.attention, windows, meta.num_layers, len(self.documents), meta.num_heads or 0)

    def num_bytes(self) -> int:
        """Return the bytes the run takes on disk."""
        windows = windows_of(self.tokens)
        size = estimate_bytes(self.meta, windows, attention=self.attention, record_logits=self.record_logits)
        return size + self.added_bytes

    def name(self) -> str:
        """Return a fingerprint, equal for two runs that must write the same trace whenever they were created.

        How the experts are computed is not part of it: the numbers are the same but for rounding.
        """
        columns = [self.tokens[name].to_numpy() for name in ("document", "chunk", "position", "token_id", "special")]
        phases = self.tokens["phase"].cat.codes.to_numpy()
        frame = self.documents
        labels = {name: [None if pd.isna(value) else value for value in frame[name].tolist()] for name in frame}
        attention = self.attention.as_text() if self.attention else None
        at_the_end = dict.fromkeys(("created", "nonfinite", "log_probabilities"), True)
        meta = self.meta.model_dump(exclude={**at_the_end, "model": {"experts_implementation"}})
        return fingerprint(*columns, phases, labels, meta, attention, self.record_logits)


def run_name(
    documents: pd.DataFrame,
    tokens: pd.DataFrame,
    meta: TraceMeta,
    attention: AttentionPlan | None = None,
    record_logits: bool = True,
) -> str:
    """Return a fingerprint, equal for two runs that must write the same trace; arguments as for `TraceBuilder`."""
    return RunPlan(documents, tokens, meta, attention, record_logits).name()


def array_shapes(meta: TraceMeta, num_tokens: int, record_logits: bool = True) -> Shapes:
    """Return name → (dtype, shape) of the routing arrays."""
    lead, chosen = (meta.num_layers, num_tokens), meta.num_experts_per_tok
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {"expert_ids": ("<i2", (*lead, chosen))}
    shapes["expert_weights"] = ("<f4", (*lead, chosen))
    if record_logits:
        shapes["router_logits"] = ("<f4", (*lead, meta.num_experts))
    return shapes


def estimate_bytes(
    meta: TraceMeta,
    windows: Sequence[int | tuple[int, int, int]],
    *,
    attention: AttentionPlan | None = None,
    record_logits: bool = True,
) -> int:
    """Return the bytes that a trace takes on disk: arrays and attention exactly, the tables by an upper estimate.

    `windows` are the lengths S of all windows, or (document, chunk, S) of each, as `windows_of` gives them.
    """
    numbered = [w if isinstance(w, tuple) else (number, 0, w) for number, w in enumerate(windows)]
    num_tokens = sum(length for _, _, length in numbered)
    size = TOKEN_ROW_BYTES * num_tokens + _total(array_shapes(meta, num_tokens, record_logits))
    if attention is None:
        return size
    attention.check(meta.num_layers, meta.num_heads)
    num_documents = max((document for document, _, _ in numbered), default=-1) + 1
    tensors = layout(attention, numbered, meta.num_layers, num_documents, meta.num_heads or 0)
    return size + len(tensor_file.header_bytes(tensors, attention_metadata(attention))) + _total(tensors)


def _total(shapes: Shapes) -> int:
    return sum(prod(shape) * np.dtype(code).itemsize for code, shape in shapes.values())
