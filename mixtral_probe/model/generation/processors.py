"""The steps from logits to the scores a token is chosen by, in the order of transformers."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.generation import logits
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.inputs import described

Processor = Callable[[Tensor, Tensor], Tensor]
"""ids [N, n] of the tokens so far and scores [N, V] float32 → scores [N, V]; those of transformers are such."""
Allowed = Callable[[int, Tensor], Sequence[int]]
"""Number of a prompt and the ids [n] of a row → the tokens that may follow."""


class Scoring:
    """All steps of one generation.

    Args:
        options: of the generation.
        prompt: what it continues.
        further: steps of the caller, between constraints and those that narrow what is drawn from.
        allowed: the tokens that may follow a row; None for all.
    """

    def __init__(
        self,
        options: GenerationOptions,
        prompt: Prompt,
        further: Sequence[Processor] = (),
        allowed: Allowed | None = None,
    ) -> None:
        self._steps = [*_constraints(options, prompt, allowed), *further, *_narrowing(options)]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [N, V] by which the token after ids [N, n] is chosen, from logits or log probabilities."""
        shape = scores.shape
        for step in self._steps:
            scores = step(ids, scores)
            if not isinstance(scores, Tensor) or scores.shape != shape:
                got = described(scores) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
                raise InputError(f"a logits_processor must return scores {list(shape)}, got {got}")
        return scores


def _constraints(options: GenerationOptions, prompt: Prompt, allowed: Allowed | None) -> Iterator[Processor]:
    """The steps that do not depend on whether tokens are drawn."""
    start, ends = prompt.ids.shape[1], options.ends
    if options.sequence_bias:
        yield lambda ids, scores: logits.add_biases(scores, ids, options.biases)
    if options.repetition_penalty != 1.0:
        padding = prompt.repeated(max(options.num_beams, options.num_return_sequences)).padding
        yield lambda ids, scores: logits.penalise(scores, ids, options.repetition_penalty, padding)
    if options.no_repeat_ngram_size:
        yield lambda ids, scores: logits.exclude_repeated_ngrams(scores, ids, options.no_repeat_ngram_size)
    if options.bad_words_ids:
        yield lambda ids, scores: logits.add_biases(scores, ids, options.excluded_sequences)
    if options.min_new_tokens and ends:
        yield _at(lambda n: n - start < options.min_new_tokens, partial(logits.exclude, tokens=ends))
    if allowed is not None:
        yield lambda ids, scores: logits.keep_allowed(scores, ids, allowed, options.num_beams)
    if options.forced_bos_token_id is not None:
        yield _at(lambda n: n == 1, partial(logits.force, tokens=[options.forced_bos_token_id]))
    if options.forced_ends:
        last = start + options.max_new_tokens - 1
        yield _at(lambda n: n == last, partial(logits.force, tokens=options.forced_ends))
    if options.remove_invalid_values:
        yield lambda ids, scores: logits.finite(scores)
    if options.exponential_decay_length_penalty is not None and ends:
        first, factor = options.exponential_decay_length_penalty
        late = start + int(first)
        yield lambda ids, scores: logits.raise_ends(scores, ends, factor, max(0, ids.shape[1] - late))
    if options.suppress_tokens:
        yield lambda ids, scores: logits.exclude(scores, options.suppress_tokens)
    if options.begin_suppress_tokens:
        begin = start if start > 1 or options.forced_bos_token_id is None else start + 1
        yield _at(lambda n: n == begin, partial(logits.exclude, tokens=options.begin_suppress_tokens))


def _narrowing(options: GenerationOptions) -> Iterator[Processor]:
    """The steps that choose what is drawn from."""
    # beam search continues with tokens that do not end a row: one candidate more than stop ids
    least = 1 if options.num_beams == 1 else max(2, len(options.ends) + 1)
    if options.temperature != 1.0:
        yield lambda ids, scores: scores / float(options.temperature)
    if options.top_k:
        k = max(options.top_k, least)
        yield lambda ids, scores: logits.keep_top_k(scores, k)
    if options.top_p < 1.0:
        yield lambda ids, scores: logits.keep_top_p(scores, options.top_p, least)
    if (share := options.min_p) is not None:
        yield lambda ids, scores: logits.keep_min_p(scores, share, least)
    if options.typical_p < 1.0:
        yield lambda ids, scores: logits.keep_typical(scores, options.typical_p, least)
    if options.epsilon_cutoff:
        yield lambda ids, scores: logits.keep_above(scores, options.epsilon_cutoff, least)
    if options.eta_cutoff:
        yield lambda ids, scores: logits.keep_above(scores, logits.eta_threshold(scores, options.eta_cutoff), least)
    if options.renormalize_logits:
        yield lambda ids, scores: F.log_softmax(scores, dim=-1)


def _at(holds: Callable[[int], bool], step: Callable[[Tensor], Tensor]) -> Processor:
    """A step that is taken where the number of tokens so far says so."""
    return lambda ids, scores: step(scores) if holds(ids.shape[1]) else scores
