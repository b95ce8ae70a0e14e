"""An awkward record of routing in raw arrays, which the referee and the tables both read."""

from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b

import numpy as np

from mixtral_probe.trace import Trace

LAYERS, TYPES = (1, 4, 5), 18
ONCE, UNKNOWN = TYPES, -1
"""The token type that is met once, and the id of tokens whose type was not recorded."""


@dataclass(frozen=True, eq=False)
class Record:
    """Routing as arrays, with documents D in groups, T tokens, L layers, E experts, and at most K chosen."""

    ids: np.ndarray
    """[L, T, K] experts, strongest first; -1 behind them."""
    weights: np.ndarray
    """[L, T, K] float32; 0 where the id is -1."""
    logits: np.ndarray
    """[L, T, E] float32."""
    document: np.ndarray
    chunk: np.ndarray
    special: np.ndarray
    token_id: np.ndarray
    predicted_id: list[int | None]
    group: list[str]
    """[D] the documents' label `domain`."""

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.document)

    @property
    def experts(self) -> int:
        """E."""
        return self.logits.shape[-1]

    @property
    def chosen(self) -> int:
        """K, the largest number of choices."""
        return self.ids.shape[-1]

    def without(self, document: int) -> "Record":
        """Return the record without the tokens of a document, which stays as a document without tokens."""
        keep = np.flatnonzero(self.document != document)
        arrays = {name: getattr(self, name)[:, keep] for name in ("ids", "weights", "logits")}
        columns = {name: getattr(self, name)[keep] for name in ("document", "chunk", "special", "token_id")}
        return replace(self, **arrays, **columns, predicted_id=[self.predicted_id[t] for t in keep])


LENGTHS = (37, 1, 58, 4, 23, 71, 12, 30, 2, 44, 9)
GROUPS = ("law", "law", "code", "law", "prose", "law", "code", "code", "prose", "law", "code")
WINDOW = 16


@cache
def awkward() -> Record:
    """Eleven documents of 1 to 71 tokens in three uneven groups, in windows of at most 16 tokens.

    Some tokens have fewer than three experts, a few have none in a layer; expert 4 of the last layer is never chosen;
    chosen experts are not always those of the largest logits; some weights do not sum to 1; one type is met once; some
    types and predictions are unknown; document 1 is a single special token.
    """
    rng = np.random.default_rng(3)
    record = _record(rng, LENGTHS, GROUPS, experts=6, chosen=3)
    count = rng.choice([0, 1, 2, 3], p=[0.02, 0.06, 0.12, 0.8], size=record.ids.shape[:2])
    ids = np.where(np.arange(3) < count[..., None], record.ids, -1)
    kept = np.where(ids >= 0, record.weights, 0)
    kept = kept / np.maximum(kept.sum(-1, keepdims=True), 1e-30)
    weights = kept * np.where(rng.random(ids.shape[:2]) < 0.05, 0.5, 1.0)[..., None]
    return replace(record, ids=ids, weights=weights.astype(np.float32))


@cache
def regular() -> Record:
    """The same documents with two of eight experts for every token, as Mixtral has them."""
    return _record(np.random.default_rng(4), LENGTHS, GROUPS, experts=8, chosen=2)


@cache
def grouped() -> Record:
    """Thirteen short documents in two groups, enough in each for an interval."""
    lengths, groups = (9, 14, 6, 11, 17, 8, 5, 12, 7, 16, 10, 6, 13), ("law", "code") * 6 + ("law",)
    return _record(np.random.default_rng(5), lengths, groups, experts=5, chosen=2)


def _record(rng, lengths, groups, *, experts: int, chosen: int) -> Record:
    document = np.repeat(np.arange(len(lengths)), lengths)
    within = np.concatenate([np.arange(length) for length in lengths])
    tokens = len(document)
    token_id = np.minimum(rng.geometric(0.15, tokens) - 1, TYPES - 1)
    token_id[rng.choice(tokens, 5, replace=False)] = UNKNOWN
    token_id[tokens // 2] = ONCE
    logits = _logits(rng, document, token_id, [sorted(set(groups)).index(name) for name in groups], experts)
    noise = rng.normal(size=logits.shape) * (rng.random(logits.shape[:2]) < 0.1)[..., None]
    used = logits + noise  # what the model routed by, in a lower precision than the record's
    ids = np.argsort(-used, axis=-1)[..., :chosen].astype(np.int16)
    special = (within == 0) | (rng.random(tokens) < 0.03)
    special[tokens // 2] = False
    predicted = rng.integers(0, TYPES, tokens)
    return Record(
        ids=ids, weights=_weights(used, ids), logits=logits, document=document, chunk=within // WINDOW,
        special=special, token_id=token_id, group=list(groups),
        predicted_id=[None if rng.random() < 0.2 else int(token) for token in predicted],
    )  # fmt: skip


def _logits(rng, document, token_id, group, experts) -> np.ndarray:
    """[L, T, E] with a taste of the group, of the document and of the type; expert 4 of the last layer is out."""
    size = len(LAYERS)
    by_group = rng.normal(size=(size, 3, experts))[:, np.asarray(group)[document]]
    by_document = 0.5 * rng.normal(size=(size, len(group), experts))[:, document]
    by_type = rng.normal(size=(size, TYPES + 2, experts))[:, token_id]
    logits = rng.normal(size=(size, len(document), experts)) + 0.7 * by_group + by_document + by_type
    logits[-1, :, 4] -= 30
    return logits.astype(np.float32)


def _weights(logits, ids) -> np.ndarray:
    """[L, T, K] softmax over the chosen."""
    z = np.take_along_axis(logits, np.maximum(ids, 0).astype(int), -1)
    g = np.where(ids >= 0, np.exp(z), 0)
    return (g / np.maximum(g.sum(-1, keepdims=True), 1e-30)).astype(np.float32)


def document_id(number: int) -> str:
    """The id of a document."""
    return f"text-{number}"


def hash_of(document: int) -> int:
    """The 64-bit BLAKE2b hash of its id, by which documents are put in folds and halves."""
    return int.from_bytes(blake2b(document_id(document).encode(), digest_size=8).digest(), "big")


def trace_of(record: Record) -> Trace:
    """Hand the arrays over."""
    return Trace.from_arrays(
        expert_ids=record.ids, expert_weights=record.weights, router_logits=record.logits, token_ids=record.token_id,
        document=record.document, chunk=record.chunk, special=record.special, predicted_id=record.predicted_id,
        piece=[f" t{number}" for number in record.token_id], moe_layers=LAYERS,
        documents=[{"id": document_id(i), "domain": name} for i, name in enumerate(record.group)],
    )  # fmt: skip
