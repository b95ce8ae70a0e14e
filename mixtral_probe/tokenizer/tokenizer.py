"""Text ⇄ token ids, with the place of every token in the text and a readable form of it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import MIB, one_sentence, read_bounded, unreadable
from mixtral_probe.token_text import EntryBytes, unknown_token
from mixtral_probe.tokenizer.added_tokens import add_tokens
from mixtral_probe.tokenizer.chat import ChatTemplate, Message
from mixtral_probe.tokenizer.merges import require_prefixed_merges
from mixtral_probe.tokenizer.token_settings import TokenSettings

MOST_BYTES = 256 * MIB
"""Of a ``tokenizer.json``; those of the largest vocabularies have an eighth of it."""
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

    Args:
        definition: the content of a ``tokenizer.json``.
        chat_template: of the model.
        settings: what the files around it say about tokens.

    Raises:
        InputError: files state different ids for a token.
    """

    def __init__(
        self, definition: bytes, chat_template: ChatTemplate | None = None, settings: TokenSettings | None = None
    ) -> None:
        self.chat_template = chat_template
        content = json.loads(definition)
        require_prefixed_merges(content)
        self._tokenizer = tokenizers.Tokenizer.from_buffer(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        changes = add_tokens(self._tokenizer, settings or TokenSettings())
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._bytes = EntryBytes(content.get("decoder"))
        self.special_ids: frozenset[int] = frozenset(token_id for token_id, token in added.items() if token.special)
        """Control tokens such as ``<s>``."""
        self._known = frozenset(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.vocab_size: int = 1 + max(self._known, default=-1)
        """One past the largest id."""
        self.fingerprint: str = hashlib.sha256(definition + changes.encode()).hexdigest()
        """SHA-256 of ``tokenizer.json`` and of what other files change in it, hexadecimal."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read the tokenizer of a model folder, with the tokens of all its files and its chat template if there is one.

        The ids are those of ``transformers.AutoTokenizer.from_pretrained(folder)``; see ``TokenSettings``.

        Raises:
            InputError: ``tokenizer.json`` is missing, a file is broken, or files contradict each other.
        """
        folder = checked_path(folder)
        settings = TokenSettings.from_folder(folder)
        template = ChatTemplate.from_folder(folder, settings)
        path = Path(folder) / "tokenizer.json"
        try:
            definition = read_bounded(path, MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"a tokenizer needs a tokenizer.json, got none at {path}{_instead(path.parent)}") from None
        except OSError as error:
            raise unreadable(path, error) from None
        with _one_sentence("tokenizer.json must define a tokenizer", path):
            return cls(definition, template, settings)

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
        with _one_sentence("a tokenizer must cut any text into tokens", "one"):
            return self._encoding(text, add_special_tokens)

    def _encoding(self, text: str, add_special_tokens: bool) -> Encoding:
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        ids = np.array(encoded.ids, dtype=np.int32)
        spans = np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2)
        special = np.isin(ids, list(self.special_ids)) | np.array(encoded.special_tokens_mask, dtype=bool)
        return Encoding(ids, spans[:, 0].copy(), spans[:, 1].copy(), special)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True, chosen: bool = False) -> str:
        """Return the text of some tokens, by default without control tokens.

        Args:
            ids: of the tokens.
            skip_special: leave out control tokens.
            chosen: whether a model chose the ids, whose vocabulary may be larger than the tokenizer's: one beyond it is
                written as ⟨id 8243⟩ then, and refused otherwise.

        Raises:
            InputError: an id is beyond the vocabulary.
        """
        checked = self._checked(ids, chosen)
        with _one_sentence("a tokenizer must spell its tokens", "one"):
            if self._known.issuperset(checked):
                return self._tokenizer.decode(checked, skip_special_tokens=skip_special)
            return self._decoded(
                [token_id for token_id in checked if not (skip_special and token_id in self.special_ids)]
            )

    def _decoded(self, kept: list[int]) -> str:
        """Return the text of tokens of which the tokenizer lacks some."""
        tokens = [self._tokenizer.id_to_token(token_id) or unknown_token(token_id) for token_id in kept]
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(tokens)

    def pieces(self, ids: Iterable[int], *, chosen: bool = False) -> list[str]:
        """Return the text of each token by itself: spaces and line breaks as they are, control tokens by their names.

        Bytes that are not a whole character within their token are written as ⟨E2⟩.

        Args:
            ids, chosen: as in ``decode``.

        Raises:
            InputError: an id is beyond the vocabulary.
        """
        texts: dict[int, str] = {}
        checked = self._checked(ids, chosen)
        for token_id in checked:
            if token_id not in texts:
                texts[token_id] = self._piece(token_id)
        return [texts[token_id] for token_id in checked]

    def spelling(self, token_id: int, *, chosen: bool = False) -> bytes:
        """Return the bytes of one token's text; for a control token, of its name.

        Args:
            token_id: of the token.
            chosen: as in ``decode``.

        Raises:
            InputError: the id is beyond the vocabulary.
        """
        (checked,) = self._checked([token_id], chosen)
        if checked not in self._known:
            return unknown_token(checked).encode()
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

    def check_fits(self, ids: np.ndarray, config: MixtralConfig, text: str = "the text") -> None:
        """Raise InputError where a text has a token that the model lacks.

        Args:
            ids: [n] of the text.
            config: of the model.
            text: what the sentence calls it.
        """
        for token_id in ids[ids >= config.vocab_size].tolist()[:1]:
            raise InputError(
                f"a text must have tokens of the model, with ids in 0–{config.vocab_size - 1}, got "
                f"{self.pieces([token_id])[0]!r} with the id {token_id} in {text}; remove it from the text, or use the "
                "tokenizer that the model was trained with"
            )

    def _checked(self, ids: Iterable[int], chosen: bool) -> list[int]:
        checked = [int(token_id) for token_id in ids]
        for token_id in checked:
            if token_id < 0 or (token_id >= self.vocab_size and not chosen):
                raise InputError(f"token ids must be in 0–{self.vocab_size - 1}, got {token_id}")
        return checked

    def _piece(self, token_id: int) -> str:
        token = self._added.get(token_id)
        if token is not None:
            return token
        text = self.spelling(token_id, chosen=True).decode("utf-8", "surrogateescape")
        return _UNDECODABLE.sub(lambda lone: f"⟨{ord(lone[0]) - 0xDC00:02X}⟩", text)


_OTHER_FORMATS = (
    ("tokenizer.model", "that of SentencePiece", "sentencepiece"),
    ("tokenizer.model.v3", "that of Mistral, for SentencePiece", "mistral-common"),
    ("tekken.json", "that of Mistral, tekken", "mistral-common"),
    ("vocab.json", "a vocabulary and merges", None),
    ("tiktoken.model", "that of tiktoken", "tiktoken"),
)
"""Files of tokenizers in other formats: name, what it is, and the package that transformers needs to convert it."""


def _instead(folder: Path) -> str:
    """Return what a folder has instead, and the command that converts it."""
    for name, what, package in _OTHER_FORMATS:
        if (folder / name).is_file():
            needs = "" if package is None else f" (with the package {package})"
            command = f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
            return f"; it has {name}, {what}: convert it once with transformers{needs}: {command}"
    return "; download it from where the weights came from" if folder.is_dir() else ""


@contextmanager
def _one_sentence(rule: str, what: object) -> Iterator[None]:
    """Convert what the tokenizers library raises; a panic of its Rust code is no Exception, and would end a thread."""
    with one_sentence(rule, what, "download its tokenizer.json again"):
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise ValueError(f"its library stopped: {error}") from error
