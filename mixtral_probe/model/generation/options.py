"""Options of generation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, Self

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError


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
        sampling_defaults = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": None}
        unused = [name for name, default in sampling_defaults.items() if getattr(self, name) != default]
        if unused and not self.do_sample:
            raise InputError(f"{unused[0]} needs do_sample=True, got do_sample=False; set it or leave {unused[0]} out")

    def _rules(self) -> list[tuple[bool, str, str]]:
        k = self.top_k
        return [
            (_positive(self.max_new_tokens), "a whole number of at least 1", "max_new_tokens"),
            (self.temperature > 0, "above 0 (do_sample=False takes the best token always)", "temperature"),
            (k in (None, 0) or _positive(k), "a whole number, 0 or None for all tokens", "top_k"),
            (0 < self.top_p <= 1, "above 0 and at most 1", "top_p"),
            (self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1", "min_p"),
            (self.repetition_penalty > 0, "above 0", "repetition_penalty"),
            (_positive(self.num_beams), "a whole number of at least 1", "num_beams"),
            (self.early_stopping in (True, False, "never"), "True, False or 'never'", "early_stopping"),
            (all(isinstance(text, str) and text for text in self.stop_strings), "texts, none empty", "stop_strings"),
        ]

    @classmethod
    def of(cls, config: MixtralConfig, options: dict[str, Any]) -> Self:
        """Options by name; the model's config has the defaults of stop and padding ids.

        With an explicit ``eos_token_id=None`` no row stops. The first stop id is the default of the padding id.
        """
        _check_names(options, [field.name for field in fields(cls)])
        ends = options.get("eos_token_id", config.eos_token_id)
        ends = () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)
        pad = options.get("pad_token_id")
        pad = config.pad_token_id if pad is None else pad
        pad = ends[0] if pad is None and ends else pad
        for name, token in (*(("eos_token_id", token) for token in ends), ("pad_token_id", pad)):
            if token is not None and not -1 <= token < config.vocab_size:
                raise InputError(f"{name} must be below vocab_size ({config.vocab_size}), got {token}")
        pad = None if pad is None else pad % config.vocab_size  # −1 is the last row, as in torch
        return cls(**options | {"eos_token_id": ends, "pad_token_id": pad})

    @property
    def ends(self) -> tuple[int, ...]:
        """The stop ids."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_names(options: Iterable[str], known: list[str]) -> None:
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
            raise InputError(f"options of generate must be among its own, got {name!r}; {hint}")
