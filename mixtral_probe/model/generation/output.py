"""The output of generation."""

from dataclasses import dataclass

from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.outputs import Output


class Generated(Output):
    """Generated sequences: R for each of the B prompts, ``num_return_sequences``.

    n is the number of new tokens of the longest row. Calls have N rows: B · R, or B · ``num_beams``.
    """

    _order = (
        "sequences", "sequences_scores", "scores", "logits", "beam_indices", "attentions", "hidden_states",
        "past_key_values", "router_logits",
    )  # fmt: skip

    sequences: Tensor
    """[B · R, S + n] int64: prompt, new tokens, padding; without the prompt where it was embeddings."""
    new_tokens: Tensor
    """[B · R] int64: number of new tokens of each row; the last one was not an input. No item."""
    past_key_values: KVCache
    """Of the rows of the last call."""
    scores: tuple[Tensor, ...] | None
    """n of [N, V]: the scores each step chose by; log probabilities in beam search."""
    logits: tuple[Tensor, ...] | None
    """n of [N, V] float32: the logits of each step."""
    sequences_scores: Tensor | None
    """[B · R], beam search only: log probability over new tokens to the length penalty."""
    beam_indices: Tensor | None
    """[B · R, n], beam search only: the row of call i whose logits new token i was chosen from, −1 on padding.
    Beam k of prompt b is row b · num_beams + k."""
    router_logits: tuple[tuple[Tensor, ...], ...] | None
    """For each call, L of [N · S, E]."""
    attentions: tuple[tuple[Tensor, ...], ...] | None
    """For each call, L of [N, H, S, M]."""
    hidden_states: tuple[tuple[Tensor, ...], ...] | None
    """For each call, L + 1 of [N, S, C]."""


@dataclass
class Steps:
    """Logits and scores of each step, as far as they are kept."""

    logits: list[Tensor] | None = None
    scores: list[Tensor] | None = None

    @classmethod
    def of(cls, options: GenerationOptions) -> "Steps":
        """Those that the options ask for."""
        kept = options.return_dict_in_generate
        return cls(*([] if kept and asked else None for asked in (options.output_logits, options.output_scores)))

    def add(self, logits: Tensor, scores: Tensor) -> None:
        """Keep those of one more step."""
        for kept, values in ((self.logits, logits), (self.scores, scores)):
            if kept is not None:
                kept.append(values)

    def outputs(self) -> dict[str, tuple[Tensor, ...] | None]:
        """The fields of ``Generated``."""
        pairs = (("logits", self.logits), ("scores", self.scores))
        return {name: None if kept is None else tuple(kept) for name, kept in pairs}
