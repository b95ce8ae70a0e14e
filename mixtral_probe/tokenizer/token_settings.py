"""The tokens and settings that the files around ``tokenizer.json`` add to it, as transformers 5 reads them.

``tokenizer_config.json`` has them in ``added_tokens_decoder`` and under names such as ``eos_token``. Only where it has
no ``added_tokens_decoder``, ``special_tokens_map.json`` and ``added_tokens.json`` of older versions count too. Tokens
with an id come first, by their ids, then named ones, then other special ones. A token that is in no vocabulary yet is
given the next free id, whatever its file says.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken

from mixtral_probe.errors import InputError
from mixtral_probe.json_files import read_json_object
from mixtral_probe.reading import one_sentence

CONFIG, ADDED, SPECIAL_MAP = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA, _OLDER_EXTRA, _OWN = "extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"
Token = str | AddedToken
"""A special token as text, or with flags."""
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True)
class StatedId:
    """The id that a file states for a token."""

    id: int
    token: AddedToken
    file: str


@dataclass(frozen=True)
class TokenSettings:
    """What a folder says about tokens outside ``tokenizer.json``."""

    numbered: tuple[StatedId, ...] = ()
    """Tokens to be added, by id."""
    named: Mapping[str, Token] = field(default_factory=dict)
    """Special tokens by names such as ``eos_token``, to be added after them."""
    extra: tuple[Token, ...] = ()
    """Other special tokens, to be added last."""
    unused: tuple[StatedId, ...] = ()
    """Tokens of a file that does not count; its ids must still not contradict the others."""
    older: bool = True
    """Whether ``numbered`` is of the older files: then the flags in ``tokenizer.json`` precede theirs."""
    split_special: bool = False
    """Whether a special token spelt out in a text is cut like other text."""
    chat_template: Any = None
    """As in ``tokenizer_config.json``."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read the files of a model folder; one that is missing says nothing.

        Raises:
            InputError: a file is broken, or states two tokens for an id.
        """
        with one_sentence("the files of a tokenizer must describe its tokens", folder, "download them again"):
            return cls._read(folder)

    @classmethod
    def _read(cls, folder: str | Path) -> Self:
        fields = _object(Path(folder) / CONFIG)
        _take_own_names(fields)
        older = "added_tokens_decoder" not in fields
        if older:
            _take_special_map(fields, _object(Path(folder) / SPECIAL_MAP))
        listed, of_config = tuple(_older(folder, _special_texts(fields))), tuple(_decoder(fields))
        return cls(
            listed if older else of_config, dict(_named(fields)), tuple(_extra(fields)), () if older else listed, older,
            fields.get("split_special_tokens") is True, fields.get("chat_template"),
        )  # fmt: skip

    @property
    def names(self) -> dict[str, str]:
        """The texts of the tokens with names."""
        return {name: str(token) for name, token in self.named.items()}

    def tokens(self, present: Mapping[int, AddedToken]) -> list[AddedToken]:
        """Return the tokens to be added to a tokenizer, in order; ``present`` are the added tokens it has, by id.

        A token with an id is listed also where it is present, since its flags replace those in ``tokenizer.json``.
        """
        by_id = {stated.id: stated.token for stated in self.numbered} | (dict(present) if self.older else {})
        tokens: list[Token] = [by_id[number] for number in sorted(by_id)]
        known = {str(token) for token in (*present.values(), *tokens)}
        for special in (*self.named.values(), *self.extra):
            if str(special) not in known and special not in tokens:
                tokens.append(special)
        return [_with_flag(token, self.names.values()) for token in tokens]


def _with_flag(token: Token, named: Collection[str]) -> AddedToken:
    """Return a token as special where it is one by its name, or was given as text."""
    if isinstance(token, str):
        return AddedToken(token, special=True)
    token.special = token.special or token.content in named
    return token


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except FileNotFoundError:
        return {}


def _take_own_names(fields: dict[str, Any]) -> None:
    """Collect the special tokens that only this tokenizer has a name for, such as ``image_token``."""
    if _OLDER_EXTRA in fields and not fields.get(_EXTRA):
        fields[_EXTRA] = fields.pop(_OLDER_EXTRA)
    own = [name for name, value in fields.items() if _is_own(name) and isinstance(value, str)]
    names = {name: fields.pop(name) for name in own}
    if isinstance(fields.get(_EXTRA), dict):
        names |= fields.pop(_EXTRA)
    if names:
        fields[_OWN] = names


def _take_special_map(fields: dict[str, Any], special: Mapping[str, Any]) -> None:
    """Merge ``special_tokens_map.json``, which precedes ``tokenizer_config.json``."""
    for name, value in special.items():
        if isinstance(value, dict) and name != _EXTRA:
            value = _token(value, name, special=True)
        elif name == _EXTRA and isinstance(value, list):
            value = [*(fields.get(_EXTRA) or []), *(_token(token, name, special=True) for token in value)]
        fields[name] = value
    if isinstance(fields.get(_EXTRA), dict):
        fields[_OWN] = fields.get(_OWN, {}) | fields.pop(_EXTRA)


def _special_texts(fields: Mapping[str, Any]) -> set[str]:
    """Return the tokens that are special by a name, as far as the reference sees it for ``added_tokens.json``."""
    values = [*(fields.get(name) for name in _NAMES), *(fields.get(_EXTRA) or [])]
    return {str(value) for value in values if isinstance(value, str | AddedToken)}


def _older(folder: str | Path, special: Collection[str]) -> list[StatedId]:
    """Return the tokens of ``added_tokens.json``; those that are special are matched before normalisation."""
    texts: dict[int, str] = {}
    for text, number in _object(Path(folder) / ADDED).items():
        if (other := texts.setdefault(_id(number, ADDED), text)) != text:
            raise InputError(
                f"an id must be of one token, got {number} for {other!r} and {text!r} in {ADDED}; correct it"
            )
    return [
        StatedId(number, AddedToken(text, normalized=text not in special, special=text in special), ADDED)
        for number, text in texts.items()
    ]


def _decoder(fields: Mapping[str, Any]) -> Iterator[StatedId]:
    content = fields.get("added_tokens_decoder", {})
    if not isinstance(content, dict):
        raise InputError(f"added_tokens_decoder of {CONFIG} must be an object, got {content!r}; correct it")
    for number, value in content.items():
        if not isinstance(value, dict):
            raise InputError(
                f"token {number} of added_tokens_decoder must be an object, got {value!r}; correct {CONFIG}"
            )
        token = _token(value, f"token {number}")
        assert isinstance(token, AddedToken)
        yield StatedId(_id(number, CONFIG), token, CONFIG)


def _named(fields: Mapping[str, Any]) -> Iterator[tuple[str, Token]]:
    own = {
        name: value for name, value in fields.items() if _is_own(name) and isinstance(value, dict | str | AddedToken)
    }
    common = {name: fields[name] for name in fields if name in _NAMES and fields[name] is not None}
    values = {name: common[name] for name in _NAMES if name in common} | own | fields.get(_OWN, {})
    for name, value in values.items():
        yield name, _token(value, name)


def _extra(fields: Mapping[str, Any]) -> Iterator[Token]:
    for value in fields.get(_EXTRA if _EXTRA in fields else _OLDER_EXTRA) or []:
        yield _token(value, _EXTRA)


def _is_own(name: str) -> bool:
    return name.endswith("_token") and name not in _NAMES


def _token(value: Any, place: str, special: bool | None = None) -> Token:
    """Return a token given as text, or as an object with the flags of the tokenizers library."""
    content = value.get("content") if isinstance(value, dict) else value
    if isinstance(content, AddedToken):
        return content
    if not isinstance(content, str) or not content:
        raise InputError(f"{place} must be a token, as text or as an object with content, got {value!r}; correct it")
    if isinstance(value, str):
        return value
    flags = {name: value[name] for name in _FLAGS if isinstance(value.get(name), bool)}
    return AddedToken(content, special=value.get("special") is True if special is None else special, **flags)


def _id(value: Any, file: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 9:
        raise InputError(f"token ids in {file} must be whole numbers from 0 on, got {value!r}; correct it")
    return int(text)
