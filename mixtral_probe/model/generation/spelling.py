"""The bytes of tokens, as stop strings need them, from a tokenizer of this project or of transformers."""

import json
from collections.abc import Callable
from typing import Any, Protocol

from mixtral_probe.errors import InputError
from mixtral_probe.token_text import EntryBytes, unknown_token

Spelling = Callable[[int], bytes]
"""Token id → the bytes of its text; ⟨id 8243⟩ for one that the model has and the tokenizer lacks."""


class TokenSpelling(Protocol):
    """A tokenizer, as stop strings use it."""

    def spelling(self, token_id: int) -> bytes:
        """The bytes of one token's text; InputError for an id beyond its vocabulary."""
        ...


def spelling_of(tokenizer: TokenSpelling | Any) -> Spelling:
    """Return the spelling of a tokenizer: one with ``spelling``, or one of transformers.

    Raises:
        InputError: it is neither.
    """
    if hasattr(tokenizer, "spelling"):
        return _with_unknown(tokenizer.spelling)
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return _of_transformers(tokenizer)
    got = "None" if tokenizer is None else f"a {type(tokenizer).__name__}"
    raise InputError(f"stop_strings need a tokenizer, got {got}; pass tokenizer=Tokenizer.from_folder(…)")


def _with_unknown(spelling: Spelling) -> Spelling:
    def spelled(token_id: int) -> bytes:
        try:
            return spelling(token_id)
        except InputError:
            return unknown_token(token_id).encode()

    return spelled


def _of_transformers(tokenizer: Any) -> Spelling:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = None if backend is None or backend.decoder is None else backend.decoder.__getstate__()
    entry_bytes, added = EntryBytes(None if state is None else json.loads(state)), tokenizer.added_tokens_decoder

    def spelled(token_id: int) -> bytes:
        if token_id in added:
            return str(added[token_id]).encode()
        entry = tokenizer.convert_ids_to_tokens(token_id)
        return unknown_token(token_id).encode() if entry is None else entry_bytes(entry)

    return spelled
