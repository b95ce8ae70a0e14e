"""The rules for the values of options of generation, one sentence per rule."""

from collections.abc import Iterator
from typing import Any

LARGEST = 1e300
"""Of a number; PyTorch computes with none beyond."""
Rule = tuple[bool, str, str]
"""Whether it is kept, what the value must be, the name of the option."""
DRAWING = {
    "temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": None, "typical_p": 1.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}  # fmt: skip
"""Settings of drawing, and the value of each without effect."""


def broken_rule(options: Any) -> str | None:
    """Return the first rule that ``GenerationOptions`` break, as a sentence that begins with the option."""
    for kept, rule, name in (*_number_rules(options), *_drawing_rules(options), *_token_rules(options)):
        if not kept:
            return f"{name} must be {rule}, got {getattr(options, name)!r}"
    unused = [name for name, neutral in DRAWING.items() if getattr(options, name) != neutral]
    if unused and not options.do_sample:
        return f"{unused[0]} needs do_sample=True, got do_sample=False; set it or leave {unused[0]} out"
    count, beams = options.num_return_sequences, options.num_beams
    if count > 1 and beams == 1 and not options.do_sample:
        return f"num_return_sequences needs do_sample=True or num_beams={count}, got {count} of a greedy search"
    if 1 < beams < count:
        return f"num_return_sequences must be at most num_beams ({beams}), got {count}"
    return None


def _number_rules(options: Any) -> Iterator[Rule]:
    for name in ("max_new_tokens", "num_beams", "num_return_sequences"):
        yield positive(getattr(options, name)), "a whole number of at least 1", name
    for name in ("min_new_tokens", "no_repeat_ngram_size"):
        yield whole(getattr(options, name)), "a whole number of at least 0", name
    yield _above_0(options.repetition_penalty), "above 0", "repetition_penalty"
    yield _is_number(options.length_penalty), "a number", "length_penalty"
    yield options.early_stopping in (True, False, "never"), "True, False or 'never'", "early_stopping"
    yield options.max_time is None or _above_0(options.max_time), "a number of seconds above 0", "max_time"
    decay = options.exponential_decay_length_penalty
    yield decay is None or _are_numbers(decay, 2), "a number of tokens and a factor", "exponential_decay_length_penalty"


def _drawing_rules(options: Any) -> Iterator[Rule]:
    yield options.do_sample in (True, False), "True or False", "do_sample"
    yield _above_0(options.temperature), "above 0 (do_sample=False takes the best token always)", "temperature"
    yield options.top_k is None or whole(options.top_k), "a whole number, 0 or None for all tokens", "top_k"
    yield options.min_p is None or _is_share(options.min_p), "between 0 and 1", "min_p"
    for name in ("top_p", "typical_p"):
        share = getattr(options, name)
        yield _is_share(share) and share > 0, "above 0 and at most 1", name
    for name in ("epsilon_cutoff", "eta_cutoff"):
        share = getattr(options, name)
        yield _is_share(share) and share < 1, "from 0 to below 1", name


def _token_rules(options: Any) -> Iterator[Rule]:
    texts, words, pairs = options.stop_strings, options.bad_words_ids, options.sequence_bias
    yield _are(str, texts) and "" not in texts, "texts, none empty", "stop_strings"
    for name, ids in (("eos_token_id", options.ends), ("forced_eos_token_id", options.forced_ends)):
        yield are_ids(ids), "a token id, several of them, or None", name
    for name in ("pad_token_id", "forced_bos_token_id"):
        yield are_ids([getattr(options, name) or 0]), "a token id or None", name
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        yield are_ids(getattr(options, name)), "token ids", name
    yield _is_list(words) and all(are_ids(word) and len(word) for word in words), "lists of token ids", "bad_words_ids"
    are_pairs = _is_list(pairs) and all(_is_list(pair) and len(pair) == 2 for pair in pairs)
    kept = are_pairs and all(are_ids(ids) and len(ids) and _are_numbers([bias], 1) for ids, bias in pairs)
    yield kept, "biases by sequences of token ids", "sequence_bias"


def whole(value: Any) -> bool:
    """Whether a value is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def positive(value: Any) -> bool:
    """Whether a value is a whole number of at least 1."""
    return whole(value) and value >= 1


def are_ids(values: Any) -> bool:
    """Whether values are a list of whole numbers."""
    return _are(int, values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _are_numbers(values: Any, count: int) -> bool:
    return _is_list(values) and len(values) == count and all(map(_is_number, values))


def _above_0(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple)


def _are(kind: type, values: Any) -> bool:
    return _is_list(values) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
