"""The names an expression may use, and their values on some rows of a trace."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.selection.rows import Rows

Array = NDArray[Any]
Kind = Literal["number", "experts", "text", "truth"]


@dataclass(frozen=True)
class Field:
    """One name: the kind of its values, and the function that returns them."""

    kind: Kind
    about: str
    """One phrase, for the help."""
    values: Callable[..., Any]
    """(rows) or (rows, index) → numbers [L or 1, n], NaN = missing; or experts [L, n, K]; or `Texts`; a truth is 0
    or 1."""
    index: Literal["", "expert", "rank"] = ""
    """What an index in brackets counts; empty where none is allowed."""
    needs_index: bool = False


def _column(name: str) -> Callable[[Rows], Array]:
    return lambda rows: rows.numbers(name)[None]


def _experts(rows: Rows) -> Array:
    ids = rows.ids.astype(np.float64)
    return np.where(ids < 0, np.nan, ids)


def _choice(rows: Rows, rank: int) -> Array:
    return _experts(rows)[..., rank]


def _weight(rows: Rows, expert: int | None = None) -> Array:
    weights = rows.weights
    if expert is None:
        return np.where(rows.ids[..., 0] < 0, np.nan, weights[..., 0])
    return np.where(rows.ids == expert, weights, 0.0).sum(-1)


def _probability(rows: Rows, expert: int | None = None) -> Array:
    probability = metrics.softmax(rows.logits)[0]
    return probability.max(-1) if expert is None else probability[..., expert]


def _logit(rows: Rows, expert: int | None = None) -> Array:
    logits = rows.logits.astype(np.float64)
    return logits.max(-1) if expert is None else logits[..., expert]


def _margin(rows: Rows) -> Array:
    chosen = metrics.chosen_mask(rows.ids, rows.num_experts).any(-2)
    margin = metrics.selection_margin(rows.logits, chosen)
    return np.where(np.isfinite(margin), margin, np.nan)


def _order_margin(rows: Rows) -> Array:
    margin = metrics.order_margin(rows.logits)
    return np.where(np.isfinite(margin), margin, np.nan)


def _entropy(rows: Rows) -> Array:
    return metrics.router_entropy(metrics.softmax(rows.logits)[0])


def _length(rows: Rows) -> Array:
    return rows.pieces.numbers(len)[None]


def _punctuation(text: str) -> bool:
    return bool(text) and all(unicodedata.category(character)[0] in "PS" for character in text)


def _predicate(test: Callable[[str], bool], *, bare: bool = True) -> Callable[[Rows], Array]:
    """Return a function that is true for tokens whose text (stripped where `bare`) passes a test."""
    return lambda rows: rows.pieces.numbers(lambda text: test(text.strip() if bare else text))[None]


def _token(about: str, test: Callable[[str], bool], *, bare: bool = True) -> Field:
    return Field("truth", about, _predicate(test, bare=bare))


FIELDS: dict[str, Field] = {
    "layer": Field("number", "layer, as the model numbers it", lambda rows: rows.layers[:, None]),
    "document": Field("number", "number of the document", _column("document")),
    "chunk": Field("number", "window of a long document", _column("chunk")),
    "position": Field("number", "position in the window", _column("position")),
    "token.number": Field("number", "place in the document", lambda rows: rows.places[None]),
    "token_id": Field("number", "id in the vocabulary", _column("token_id")),
    "predicted_id": Field("number", "the likeliest next token's id", _column("predicted_id")),
    "nll": Field("number", "the token's loss, nats", _column("nll")),
    "expert": Field("experts", "any of the chosen experts", _experts),
    "choice": Field("number", "expert of one rank: choice[0] is the first choice", _choice, "rank", needs_index=True),
    "weight": Field("number", "of the first choice; weight[3]: of expert 3, 0 if not chosen", _weight, "expert"),
    "logit": Field("number", "largest of the router; logit[3]: of expert 3", _logit, "expert"),
    "probability": Field("number", "largest of the router; probability[3]: of expert 3", _probability, "expert"),
    "margin": Field("number", "weakest chosen minus strongest other logit, nats", _margin),
    "order_margin": Field("number", "strongest minus second logit, nats", _order_margin),
    "entropy": Field("number", "router entropy H(p)/ln E", _entropy),
    "id": Field("text", "id of the document", lambda rows: rows.document_texts("id")),
    "phase": Field("text", "prefill or decode", lambda rows: rows.texts("phase")),
    "token": Field("text", "text of the token, with its white space", lambda rows: rows.pieces),
    "token.word": Field(
        "text", "text without white space at its ends, in lower case", lambda rows: rows.pieces.mapped(_word)
    ),
    "token.length": Field("number", "characters of the token", _length),
    "token.is_digit": _token("digits only", str.isdigit),
    "token.is_alpha": _token("letters only", str.isalpha),
    "token.is_upper": _token("in capitals", str.isupper),
    "token.is_title": _token("one capital, then small letters", str.istitle),
    "token.is_punctuation": _token("punctuation and symbols only", _punctuation),
    "token.is_space": _token("white space only", lambda text: bool(text) and text.isspace(), bare=False),
    "token.is_newline": _token("holds a line break", lambda text: "\n" in text, bare=False),
    "token.is_ascii": _token("ASCII only", str.isascii),
    "token.starts_word": _token(
        "begins a word: white space, then a letter or digit",
        lambda text: text[:1].isspace() and text.strip()[:1].isalnum(),
        bare=False,
    ),
    "token.is_special": Field("truth", "special, such as BOS", lambda rows: rows.numbers("special")[None]),
}
"""Every built-in name; the labels of the documents (`domain`, `label["my label"]`) are names too."""


def _word(text: str) -> str:
    return text.strip().lower()


def label_field(documents: pd.DataFrame, label: str) -> Field:
    """Return a label of the documents as a field."""
    dtype = documents[label].dtype
    if pd.api.types.is_numeric_dtype(dtype):
        kind: Kind = "truth" if pd.api.types.is_bool_dtype(dtype) else "number"
        return Field(kind, "label", lambda rows: rows.document_numbers(label)[None])
    return Field("text", "label", lambda rows: rows.document_texts(label))
