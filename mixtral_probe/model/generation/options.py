"""Options of generation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, TypedDict

from mixtral_probe.errors import InputError
from mixtral_probe.model.generation.rules import broken_rule


class GenerationKeywords(TypedDict, total=False):
    """The options of ``Probe.generate`` and ``Probe.trace(generate=)`` by keyword, for editors and type checkers."""

    do_sample: bool
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float | None
    repetition_penalty: float
    num_beams: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    eos_token_id: int | Sequence[int] | None
    pad_token_id: int | None
    stop_strings: Sequence[str]
    max_time: float | None
    min_new_tokens: int
    typical_p: float
    epsilon_cutoff: float
    eta_cutoff: float
    no_repeat_ngram_size: int
    bad_words_ids: Sequence[Sequence[int]]
    sequence_bias: Any
    suppress_tokens: Sequence[int]
    begin_suppress_tokens: Sequence[int]
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
    exponential_decay_length_penalty: Sequence[float] | None
    renormalize_logits: bool
    remove_invalid_values: bool
    min_length: int
    max_length: int


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
    max_time: float | None = None
    """Seconds after which rows end."""
    num_return_sequences: int = 1
    """Sequences for each prompt: drawn, or the best beams."""
    min_new_tokens: int = 0
    """No stop id is chosen before."""
    typical_p: float = 1.0
    """Draw only from the most typical whose probabilities reach this sum (Meister et al. 2022, arXiv 2202.00666)."""
    epsilon_cutoff: float = 0.0
    """Draw only tokens of at least this probability (Hewitt et al. 2022, arXiv 2210.15191)."""
    eta_cutoff: float = 0.0
    """The same with a threshold that falls with the entropy of the row (same paper)."""
    no_repeat_ngram_size: int = 0
    """As many tokens in a row occur once only; 0 for no such rule."""
    bad_words_ids: Sequence[Sequence[int]] = ()
    """Sequences of tokens that do not occur."""
    sequence_bias: Any = ()
    """Added to the logit of a token that completes a sequence: {ids: bias} or pairs of both."""
    suppress_tokens: Sequence[int] = ()
    """Tokens that are not chosen."""
    begin_suppress_tokens: Sequence[int] = ()
    """Tokens that are not chosen first."""
    forced_bos_token_id: int | None = None
    """The token after a prompt of one."""
    forced_eos_token_id: int | Sequence[int] | None = None
    """The last token of a full row, or those it is chosen from."""
    exponential_decay_length_penalty: Sequence[float] | None = None
    """(n, factor): after n new tokens stop ids gain |logit| · (factor^(tokens since) − 1)."""
    renormalize_logits: bool = False
    """Scores are log probabilities again after all steps."""
    remove_invalid_values: bool = False
    """0 for NaN and the largest numbers for infinite scores."""
    return_dict_in_generate: bool = False
    """Return a ``Generated``, with the outputs that follow; otherwise its sequences [B, S + n]."""
    output_scores: bool = False
    output_logits: bool = False
    output_router_logits: bool = False
    output_attentions: bool = False
    output_hidden_states: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        if isinstance(self.sequence_bias, Mapping):
            object.__setattr__(self, "sequence_bias", tuple(self.sequence_bias.items()))
        if (sentence := broken_rule(self)) is not None:
            raise InputError(sentence)

    def with_checked_ids(self, vocabulary: int) -> Self:
        """Return the options with every id in the vocabulary, −1 being its last, and a padding id where rows can end.

        Raises:
            InputError: an id is beyond the vocabulary.
        """
        pad = self.ends[0] if self.pad_token_id is None and self.ends else self.pad_token_id
        for name, tokens in (self._tokens() | {"pad_token_id": _as_tuple(pad)}).items():
            for token in tokens:
                if not -1 <= token < vocabulary:
                    raise InputError(f"{name} must be below vocab_size ({vocabulary}), got {token}")
        return replace(self, eos_token_id=self.ends, pad_token_id=None if pad is None else pad % vocabulary)

    def _tokens(self) -> dict[str, Sequence[int]]:
        return {
            "eos_token_id": self.ends,
            "suppress_tokens": self.suppress_tokens,
            "begin_suppress_tokens": self.begin_suppress_tokens,
            "forced_bos_token_id": _as_tuple(self.forced_bos_token_id),
            "forced_eos_token_id": self.forced_ends,
            "bad_words_ids": [token for sequence in self.bad_words_ids for token in sequence],
            "sequence_bias": [token for sequence in self.biases for token in sequence],
        }

    @property
    def ends(self) -> tuple[int, ...]:
        """The stop ids."""
        return _as_tuple(self.eos_token_id)

    @property
    def forced_ends(self) -> tuple[int, ...]:
        """The tokens of which one is the last of a full row."""
        return _as_tuple(self.forced_eos_token_id)

    @property
    def biases(self) -> dict[tuple[int, ...], float]:
        """Bias by sequence of tokens."""
        return {tuple(ids): bias for ids, bias in self.sequence_bias}

    @property
    def excluded_sequences(self) -> dict[tuple[int, ...], float]:
        """−∞ by sequence of ``bad_words_ids``; a stop id alone is not excluded."""
        return {tuple(ids): -math.inf for ids in self.bad_words_ids if list(ids) not in [[end] for end in self.ends]}

    def settings(self) -> dict[str, Any]:
        """The options as records of a run have them: the first ones always, later ones where they have an effect."""
        neutral = {f.name: f.default for f in fields(self)}
        return {n: v for n, v in asdict(self).items() if n in _ALWAYS_RECORDED or v != neutral[n]}


KNOWN = tuple(field.name for field in fields(GenerationOptions))
"""Names of the options."""
_ALWAYS_RECORDED = KNOWN[: KNOWN.index("stop_strings") + 1]


def _as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, Sequence) else (ids,)
