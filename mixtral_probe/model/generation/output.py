"""The output of generation."""

from dataclasses import dataclass

from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache


@dataclass(frozen=True, slots=True)
class Generated:
    """Generated sequences. n is the number of new tokens of the longest row; a field that was not requested is None."""

    sequences: Tensor
    """[B, S + n] int64: prompt, new tokens, padding."""
    new_tokens: Tensor
    """[B] int64: number of new tokens of each row; the last one was not an input."""
    past_key_values: KVCache
    """Of the rows of the last call: B, or with beams B · num_beams."""
    scores: tuple[Tensor, ...] | None = None
    """n of [N, V]: the scores of each step; log probabilities in beam search, where N = B · num_beams."""
    sequences_scores: Tensor | None = None
    """[B], beam search only: log probability over new tokens to the length penalty."""
    beam_rows: Tensor | None = None
    """[B, n], beam search only: the row of call i whose logits new token i was chosen from, −1 on padding. Beam k of
    sequence b is row b · num_beams + k; the first call has one row b for all of them."""
    router_logits: tuple[tuple[Tensor, ...], ...] | None = None
    """For each call, L of [N · S, E]."""
    attentions: tuple[tuple[Tensor, ...], ...] | None = None
    """For each call, L of [N, H, S, M]."""
    hidden_states: tuple[tuple[Tensor, ...], ...] | None = None
    """For each call, L + 1 of [N, S, C]."""
