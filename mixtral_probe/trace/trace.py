"""The record of one run: which experts every token was sent to, in every layer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_folder
from mixtral_probe.notebook_repr import NotebookRepr
from mixtral_probe.paths import checked_path
from mixtral_probe.trace import assemble, checks
from mixtral_probe.trace.attention import AttentionRecord, unpack_triangle
from mixtral_probe.trace.describe import describe
from mixtral_probe.trace.finite import Nonfinite, nonfinite_rows, require_finite, require_nonfinite, skip_rows
from mixtral_probe.trace.frames import document_frame
from mixtral_probe.trace.meta import TraceMeta
from mixtral_probe.trace.storage import folder as storage


@dataclass(frozen=True, eq=False, repr=False)
class Trace(NotebookRepr):
    """What the routers (and, where recorded, the attention heads) did with some documents.

    Build one with `Trace.from_arrays`, open one with `Trace.load`. Frozen; documents are never padded; rows
    are in the order document, chunk, position. Every broken rule is an InputError.
    """

    documents: pd.DataFrame
    """One row per document: `document` (0, 1, …), `id`, then labels such as `domain`."""
    tokens: pd.DataFrame
    """[T] rows: document, chunk, position, token_id, piece, start, end, phase, special, nll, predicted_id.

    `nll` is the natural-log loss of THIS token given those before it in its window; `predicted_id` the most
    likely NEXT token, seen from this row. What was not computed is missing.
    """
    expert_ids: np.ndarray
    """[L, T, K] int16, as observed, strongest first; −1 behind them where fewer than K were chosen."""
    meta: TraceMeta
    """Sizes, model, tokenizer, corpus, software."""
    expert_weights: np.ndarray | None = None
    """[L, T, K] float32, what each chosen expert's output was multiplied by; 0 where the id is −1."""
    router_logits: np.ndarray | None = None
    """[L, T, E] float32, before top-k."""
    attention_record: AttentionRecord | None = None
    """The raw recorded attention; `attention`, `attention_sums` read it."""
    path: Path | None = None
    """The folder of the trace; None when only in memory."""
    where: str | None = None
    """The expression of the selection the trace was narrowed to; None for the whole trace."""

    def __post_init__(self) -> None:
        checks.check_documents(self.documents)
        checks.check_tokens(self.tokens, len(self.documents))
        checks.check_arrays(self.expert_ids, self.expert_weights, self.router_logits, self.meta, len(self.tokens))
        if self.attention_record is not None:
            checks.check_attention(self.attention_record, self.tokens, len(self.documents), self.meta)
        for name in storage.ARRAYS:
            if (array := getattr(self, name)) is not None:
                object.__setattr__(self, name, _read_only(array))

    @classmethod
    def from_arrays(
        cls,
        *,
        expert_ids: np.ndarray,
        expert_weights: np.ndarray | None = None,
        router_logits: np.ndarray | None = None,
        router_probabilities: np.ndarray | None = None,
        token_ids: np.ndarray | None = None,
        document: np.ndarray | None = None,
        num_experts: int | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        special: np.ndarray | None = None,
        moe_layers: Sequence[int] | None = None,
        meta: Mapping[str, Any] | None = None,
        nonfinite: Nonfinite = "refuse",
        **columns: Any,
    ) -> "Trace":
        """Build a trace from plain arrays; every array but the expert ids may be absent.

        `expert_ids` [L, T, K] (−1 where fewer were chosen; a last column that is all −1 is dropped),
        `expert_weights` [L, T, K], `router_logits` [L, T, E], or in their place `router_probabilities` [L, T, E], the
        softmax over all experts, whose logarithm is stored and whose z-loss is unknown; `token_ids` [T] (−1 where
        unknown), `document` [T] the document number of each token (all 0), `documents` one dict of `id` and labels per
        document, `special` [T] truth values (none), `moe_layers` [L] the model's own layer numbers, `meta` other
        fields of TraceMeta. Further columns of `tokens`, each [T]: chunk, position, piece, start, end,
        phase, nll, predicted_id. Everything is copied. Raises InputError for each broken rule.

        Routing must be finite: no weight that is NaN, infinite or negative, no logit that is NaN or infinite, but
        −infinity for an expert that was not chosen. With `nonfinite="skip"` a token has no choice in the layers where
        it is not, counts nowhere there, and is counted in `meta.nonfinite`.
        """
        require_nonfinite(nonfinite)
        expert_ids = assemble.plain("expert_ids", expert_ids)
        ids = assemble.expert_ids(expert_ids)
        weights = assemble.floats("expert_weights", expert_weights)
        logits = assemble.logits(router_logits, router_probabilities)
        per_token = {"token_id": token_ids, "document": document, "special": special} | columns
        assemble.check_axes(ids, per_token, {"expert_weights": weights, "router_logits": logits})
        experts = assemble.num_experts(num_experts, logits)
        tokens = assemble.tokens(ids.shape[1], columns, document=document, token_id=token_ids, special=special)
        described = dict(meta or {}) | ({} if router_probabilities is None else {"log_probabilities": True})
        trace = cls(
            documents=assemble.documents(documents, tokens),
            tokens=tokens,
            expert_ids=ids,
            meta=assemble.meta(ids, experts, moe_layers, described),
            expert_weights=assemble.expert_weights(weights, expert_ids.shape, ids),
            router_logits=logits,
        )
        return trace._with_finite_routing(nonfinite)

    def _with_finite_routing(self, nonfinite: Nonfinite) -> "Trace":
        """Refuse routing that is not finite, or return a trace without it."""
        arrays = (self.expert_ids, self.expert_weights, self.router_logits)
        if nonfinite == "refuse":
            require_finite(*arrays)
        elif (bad := nonfinite_rows(*arrays)).any():
            ids = np.array(self.expert_ids)
            weights = None if self.expert_weights is None else np.array(self.expert_weights)
            skip_rows(bad, ids, weights)
            meta = self.meta.model_copy(update={"nonfinite": tuple(bad.sum(1).tolist())})
            return replace(self, expert_ids=ids, expert_weights=weights, meta=meta)
        return self

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Trace":
        """Open a saved trace; its arrays stay on disk (memory-mapped) until they are used.

        Raises InputError when it is missing, damaged, or written by a newer version.
        """
        folder = checked_path(path)
        return cls(**storage.read_parts(folder), path=folder)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the trace as a folder, whole or not at all; returns the path.

        An older trace is replaced, an empty folder is used; anything else at this path raises an
        InputError.
        """
        parts = (self.documents, self.tokens, self.arrays, self.attention_record, self.meta, self.where)
        target = checked_path(path)
        write_folder(target, storage.MARKER, lambda folder: storage.write_parts(folder, *parts))
        return target

    @property
    def arrays(self) -> dict[str, np.ndarray | None]:
        """The routing arrays by name, None where one is missing."""
        return {name: getattr(self, name) for name in storage.ARRAYS}

    def __len__(self) -> int:
        """Return T, the number of tokens."""
        return len(self.tokens)

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.tokens)

    @property
    def num_documents(self) -> int:
        """The number of documents, including those without a token."""
        return len(self.documents)

    @property
    def num_layers(self) -> int:
        """L, the traced layers."""
        return self.meta.num_layers

    @property
    def layers(self) -> tuple[int, ...]:
        """[L] the model's own number of each traced layer."""
        return self.meta.layers

    @property
    def num_experts(self) -> int:
        """E."""
        return self.meta.num_experts

    @property
    def num_experts_per_tok(self) -> int:
        """K, the largest number chosen anywhere."""
        return self.meta.num_experts_per_tok

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the documents' labels, such as `domain`."""
        return tuple(self.documents.columns[2:])

    def rows(self, document: int) -> slice:
        """Return the rows of one document, as a slice of T."""
        self._check_document(document)
        column = self.tokens["document"].to_numpy()
        return slice(*(int(row) for row in np.searchsorted(column, [document, document + 1])))

    def select(self, documents: Iterable[int]) -> "Trace":
        """Return a trace in memory of these documents only, renumbered 0, 1, … in this order."""
        chosen = [int(document) for document in documents]
        if len(set(chosen)) != len(chosen):
            raise InputError("each document can be selected once, got one twice")
        rows = [np.arange(len(self))[self.rows(document)] for document in chosen]
        index = np.concatenate([np.arange(0), *rows])
        number = np.repeat(np.arange(len(chosen), dtype=np.int32), [len(part) for part in rows])
        arrays = {name: array[:, index] for name in storage.ARRAYS if (array := getattr(self, name)) is not None}
        return replace(
            self,
            documents=document_frame(self.documents.iloc[chosen].drop(columns="document").to_dict("records")),
            tokens=self.tokens.iloc[index].reset_index(drop=True).assign(document=number),
            meta=self.meta if self.meta.nonfinite is None else self.meta.without_choice(arrays["expert_ids"]),
            attention_record=self.attention_record and self.attention_record.select(chosen),
            path=None,
            **arrays,
        )

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers whose attention was recorded."""
        return tuple(self.attention_record.plan.layers) if self.attention_record else ()

    def attention_heads(self, layer: int) -> tuple[int, ...]:
        """Return the heads recorded in a layer; empty when none."""
        return self.attention_record.plan.layers.get(layer, ()) if self.attention_record else ()

    @property
    def attention_sums(self) -> dict[str, np.ndarray] | None:
        """Sums over query tokens, or None: `tokens` [L, D]; `entropy_bits` (bits), `distance` (tokens,
        Σ_j a_ij (i − j)) and `sink` (a_i0) [L, D, H], NaN for heads that were not recorded."""
        if self.attention_record is None:
            return None
        return {name: _read_only(array) for name, array in self.attention_record.sums.items()}

    def attention(self, document: int, layer: int, head: int | None = None, chunk: int = 0) -> np.ndarray:
        """[heads, S, S] float32 of one window, in the order of `attention_heads(layer)`; [S, S] for one `head`.

        Row i is the query, column j the key; 0 above the diagonal. Raises InputError for what was not recorded.
        """
        self._check_document(document)
        if self.attention_record is None:
            raise InputError("a trace needs recorded attention, got none; record it again, naming the layers")
        packed = self.attention_record.block(document, chunk, layer)
        if head is None:
            return unpack_triangle(packed)
        heads = self.attention_heads(layer)
        if head not in heads:
            raise InputError(f"head must be one of {list(heads)}, those recorded in layer {layer}, got {head}")
        row = heads.index(head)
        return unpack_triangle(packed[row : row + 1])[0]

    def _check_document(self, document: int) -> None:
        if not 0 <= document < self.num_documents:
            count = self.num_documents
            raise InputError(f"document must be in 0–{count - 1}, got {document}")

    def __repr__(self) -> str:
        return describe(self.documents, len(self), self.meta, list(self._recorded()), self.path)

    def _recorded(self) -> Iterator[str]:
        """Yield what the trace has besides the expert ids."""
        if self.expert_weights is not None:
            yield "expert weights"
        if self.router_logits is not None:
            yield "router logits"
        if self.tokens["nll"].notna().any():
            yield "losses"
        if self.attention_layers:
            yield f"attention of layers {', '.join(map(str, self.attention_layers))}"
        if self.meta.nonfinite:
            yield f"{sum(self.meta.nonfinite):,} choices left out, since their routing was not finite"


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
