"""Text ⇄ token ids, with the place of every token in the text and a readable form of it."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.tokenizer.chat import ChatTemplate, Message

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_UNDECODABLE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of one text, n of them."""

    ids: np.ndarray
    """[n] int32."""
    start: np.ndarray
    """[n] int32, the first character of each token in the text; 0 for tokens the tokenizer added."""
    end: np.ndarray
    """[n] int32, one past its last character. The tokens of a split character all span that character."""
    special: np.ndarray
    """[n] bool, True on control tokens such as ``<s>``."""

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """The tokenizer of a model folder.

    Whether a text begins with ``<s>`` is decided by the post-processor in ``tokenizer.json``. A control token spelt out
    in a text, such as ``</s>``, is read as that token, as transformers does.
    """

    def __init__(self, definition: bytes, chat_template: ChatTemplate | None = None) -> None:
        """Build a tokenizer from the content of a ``tokenizer.json``."""
        self.chat_template = chat_template
        self._tokenizer = tokenizers.Tokenizer.from_buffer(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._byte_of = _bytes_of_characters() if _is_byte_level(json.loads(definition)) else None
        self.special_ids: frozenset[int] = frozenset(token_id for token_id, token in added.items() if token.special)
        """Control tokens such as ``<s>``."""
        self.vocab_size: int = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        """One past the largest id."""
        self.fingerprint: str = hashlib.sha256(definition).hexdigest()
        """SHA-256 of ``tokenizer.json``, hexadecimal."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read ``tokenizer.json`` of a model folder, and its chat template if there is one.

        Raises:
            InputError: it is missing or broken.
        """
        template = ChatTemplate.from_folder(folder)
        path = Path(folder) / "tokenizer.json"
        try:
            return cls(path.read_bytes(), template)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"a tokenizer needs a tokenizer.json, got none at {path}") from None
        except Exception as error:  # the tokenizers library raises plain Exception
            raise InputError(f"tokenizer.json must define a tokenizer, got {path} with an error: {error}") from None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Encoding:
        """Return the tokens of a text.

        Args:
            add_special_tokens: whether the post-processor adds its tokens, such as ``<s>``. Use False where the text
                has them already, as that of a chat template does.

        Raises:
            InputError: the text holds half of a surrogate pair, which no encoding of Unicode can represent.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"a text must be valid Unicode, got half of a surrogate pair at character {error.start} "
                f"(U+{ord(text[error.start]):04X}); read the text anew with the right encoding, or remove it"
            ) from None
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        ids = np.array(encoded.ids, dtype=np.int32)
        spans = np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2)
        special = np.isin(ids, list(self.special_ids)) | np.array(encoded.special_tokens_mask, dtype=bool)
        return Encoding(ids, spans[:, 0].copy(), spans[:, 1].copy(), special)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of some tokens, by default without control tokens."""
        return self._tokenizer.decode(self._checked(ids), skip_special_tokens=skip_special)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the text of each token by itself: spaces and line breaks as they are, control tokens by their names.

        Bytes that are not a whole character within their token are written as ⟨E2⟩.
        """
        texts: dict[int, str] = {}
        checked = self._checked(ids)
        for token_id in checked:
            if token_id not in texts:
                texts[token_id] = self._piece(token_id)
        return [texts[token_id] for token_id in checked]

    def spelling(self, token_id: int) -> bytes:
        """Return the bytes of one token's text; for a control token, of its name."""
        (checked,) = self._checked([token_id])
        token = self._added.get(checked)
        return self._bytes(self._tokenizer.id_to_token(checked) or "") if token is None else token.encode()

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **variables: Any
    ) -> str:
        """Return a conversation as text in the format of the model, including control tokens.

        Args:
            messages: such as [{"role": "user", "content": "2 + 2?"}].
            add_generation_prompt: end with the beginning of an answer.
            variables: other variables of the template, such as ``tools``.

        Raises:
            InputError: there is no template, it rejects the conversation, or jinja2 is missing.
        """
        if self.chat_template is None:
            raise InputError(
                "a conversation needs a chat template, got none in the tokenizer's folder, neither in "
                "tokenizer_config.json nor as chat_template.jinja; give the text itself"
            )
        return self.chat_template.render(messages, add_generation_prompt, **variables)

    def id_of(self, token: str) -> int | None:
        """Return the id of a token by its name in the vocabulary, such as ``</s>``; None if there is no such token."""
        return self._tokenizer.token_to_id(token)

    def check_fits(self, config: MixtralConfig) -> None:
        """Raise InputError if the tokenizer has ids without an embedding in the model."""
        if self.vocab_size > config.vocab_size:
            raise InputError(
                f"a model's vocab_size must cover its tokenizer, got {config.vocab_size} and {self.vocab_size} tokens; "
                f"use the tokenizer the model was trained with"
            )

    def _checked(self, ids: Iterable[int]) -> list[int]:
        checked = [int(token_id) for token_id in ids]
        for token_id in checked:
            if not 0 <= token_id < self.vocab_size:
                raise InputError(f"token ids must be in 0–{self.vocab_size - 1}, got {token_id}")
        return checked

    def _piece(self, token_id: int) -> str:
        token = self._added.get(token_id)
        if token is not None:
            return token
        text = self.spelling(token_id).decode("utf-8", "surrogateescape")
        return _UNDECODABLE.sub(lambda lone: f"⟨{ord(lone[0]) - 0xDC00:02X}⟩", text)

    def _bytes(self, token: str) -> bytes:
        """Return the bytes of a vocabulary entry, in either of the two spellings of bytes as characters."""
        if self._byte_of is not None:
            return b"".join(self._byte_of.get(character, character.encode()) for character in token)
        if match := _BYTE.fullmatch(token):
            return bytes.fromhex(match[1])
        return token.replace("▁", " ").encode()


def _is_byte_level(definition: dict[str, Any]) -> bool:
    """Return whether vocabulary entries spell bytes as GPT-2 does; else they are SentencePiece's, with ▁ and <0xE2>."""
    return '"ByteLevel"' in json.dumps(definition.get("decoder"))


def _bytes_of_characters() -> dict[str, bytes]:
    """Return GPT-2's spelling of bytes (Radford et al. 2019): printable Latin-1 as is, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): bytes([byte]) for byte in printable}
    return characters | {chr(256 + i): bytes([byte]) for i, byte in enumerate(others)}
