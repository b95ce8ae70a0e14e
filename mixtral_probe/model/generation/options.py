"""Options of generation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, Self

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError

TOP_K = 50
"""Drawn from where neither the call nor the model says how many, as in transformers."""
_DRAWING = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": None}
"""Settings of drawing, and the value of each without effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Options of ``generate``, under the names of transformers.

    Raises:
        InputError: a value breaks a rule, or contradicts another.
    """

    max_new_tokens: int = 20
    do_sample: bool = False
    """Sample the next token; otherwise take the best one."""
    temperature: float = 1.0
    """Divides the logits before drawing."""
    top_k: int | None = None
    """Draw only from the k best; None or 0 for all."""
    top_p: float = 1.0
    """Draw only from the best whose probabilities first reach this sum (Holtzman et al. 2020, arXiv 1904.09751)."""
    min_p: float | None = None
    """Draw only tokens of at least this share of the best probability (Nguyen et al. 2024, arXiv 2407.01082)."""
    repetition_penalty: float = 1.0
    """Divides positive, multiplies negative logits of tokens that occurred (Keskar et al. 2019, arXiv 1909.05858)."""
    num_beams: int = 1
    """Sequences kept side by side; with more than one, beam search."""
    length_penalty: float = 1.0
    """A finished beam's log probability is divided by its new tokens to this power."""
    early_stopping: bool | Literal["never"] = False
    """True: stop when ``num_beams`` are finished; False: when the running ones are unlikely to exceed them; "never":
    only when they cannot."""
    eos_token_id: int | Sequence[int] | None = None
    """Ids that end a row; None for none."""
    pad_token_id: int | None = None
    """The id that fills a row after its end."""
    stop_strings: Sequence[str] = ()
    """Texts that end a row once its last token completes one; the text stays in the row."""

    def __post_init__(self) -> None:
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        for valid, rule, name in self._rules():
            if not valid:
                raise InputError(f"{name} must be {rule}, got {getattr(self, name)!r}")
        unused = [name for name, neutral in _DRAWING.items() if getattr(self, name) != neutral]
        if unused and not self.do_sample:
            raise InputError(f"{unused[0]} needs do_sample=True, got do_sample=False; set it or leave {unused[0]} out")

    def _rules(self) -> list[tuple[bool, str, str]]:
        k, texts = self.top_k, self.stop_strings
        return [
            (_positive(self.max_new_tokens), "a whole number of at least 1", "max_new_tokens"),
            (self.do_sample in (True, False), "True or False", "do_sample"),
            (_above_0(self.temperature), "above 0 (do_sample=False takes the best token always)", "temperature"),
            (k is None or k == 0 or _positive(k), "a whole number, 0 or None for all tokens", "top_k"),
            (_above_0(self.top_p) and self.top_p <= 1, "above 0 and at most 1", "top_p"),
            (self.min_p is None or (_is_number(self.min_p) and 0 <= self.min_p <= 1), "between 0 and 1", "min_p"),
            (_above_0(self.repetition_penalty), "above 0", "repetition_penalty"),
            (_positive(self.num_beams), "a whole number of at least 1", "num_beams"),
            (_is_number(self.length_penalty), "a number", "length_penalty"),
            (self.early_stopping in (True, False, "never"), "True, False or 'never'", "early_stopping"),
            (_are(str, texts) and "" not in texts, "texts, none empty", "stop_strings"),
            (_are(int, self.ends), "a token id, several of them, or None", "eos_token_id"),
            (_are(int, [self.pad_token_id or 0]), "a token id or None", "pad_token_id"),
        ]

    @classmethod
    def of(cls, config: MixtralConfig, options: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Self:
        """Collect options with the precedence of transformers: given, stored with the model, its defaults.

        With an explicit ``eos_token_id=None`` no row stops. The first stop id is the default of the padding id, and
        tokens are drawn from the ``TOP_K`` best. Stored settings of drawing are left out where nothing is drawn, and
        stored stop ids beyond the vocabulary where they can never be chosen.

        Args:
            options: given, by name; None stands for no effect.
            stored: the content of ``generation_config.json``; None for a model without one, whose config has these
                fields.
        """
        _check_names(options, known := [field.name for field in fields(cls)])
        defaults = _stored(config.model_dump() if stored is None else stored, known, config.vocab_size)
        merged = defaults | dict(options)
        if not merged.get("do_sample"):
            merged = {name: value for name, value in merged.items() if name in options or name not in _DRAWING}
        try:
            chosen = cls(**{name: value for name, value in merged.items() if value is not None})
        except InputError as error:
            name = str(error).split()[0]
            origin = "" if name in options else f", stored with the model (generation_config); pass {name}="
            raise InputError(f"{error}{origin}") from None
        return chosen._with_checked_ids(config.vocab_size)

    def _with_checked_ids(self, vocabulary: int) -> Self:
        pad = self.ends[0] if self.pad_token_id is None and self.ends else self.pad_token_id
        for name, token in (*(("eos_token_id", token) for token in self.ends), ("pad_token_id", pad)):
            if token is not None and not -1 <= token < vocabulary:
                raise InputError(f"{name} must be below vocab_size ({vocabulary}), got {token}")
        pad = None if pad is None else pad % vocabulary  # −1 is the last row, as in torch
        return replace(self, eos_token_id=self.ends, pad_token_id=pad)

    @property
    def ends(self) -> tuple[int, ...]:
        """The stop ids."""
        eos = self.eos_token_id
        return () if eos is None else tuple(eos) if isinstance(eos, Sequence) else (eos,)


def _stored(fields: Mapping[str, Any], known: Sequence[str], vocabulary: int) -> dict[str, Any]:
    """The stored fields that generation knows, None being unset, and the defaults of those that are not stored."""
    stored = {name: fields[name] for name in known if fields.get(name) is not None}
    ends = stored.get("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [ends]
    if _are(int, ends):
        stored["eos_token_id"] = [token for token in ends if token < vocabulary]
    return {"top_k": TOP_K} | stored


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _above_0(value: Any) -> bool:
    return _is_number(value) and value > 0


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)


def _check_names(options: Iterable[str], known: list[str]) -> None:
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
            raise InputError(f"options of generate must be among its own, got {name!r}; {hint}")
