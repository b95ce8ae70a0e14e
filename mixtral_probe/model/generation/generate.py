"""``generate``: check options, run the search, return the result."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.generation.beam import beam_search
from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.output import Generated
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.sampling import Generators, Streamer, sample
from mixtral_probe.model.generation.stopping import Stops, TokenSpelling
from mixtral_probe.model.sites import Instrument


class Generates(BaseModel):
    """A language model with ``generate``."""

    generation_config: dict[str, Any] | None = None
    """The content of the folder's ``generation_config.json``: defaults of the options of ``generate``. None for a model
    without one, whose config has them."""

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, past_key_values: KVCache | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Return the arguments of the next forward call: ids [B, n] that the cache lacks, and those given.

        For libraries that wrap a model of transformers, such as PEFT; ``generate`` does not call it.
        """
        past = 0 if past_key_values is None else len(past_key_values)
        return {"input_ids": input_ids[:, past:], "past_key_values": past_key_values, **arguments}

    def generation_options(self, **options: Any) -> GenerationOptions:
        """Return the options of a generation: those given, then those of ``generation_config``, then defaults.

        Raises:
            InputError: an option is unknown or breaks a rule.
        """
        return GenerationOptions.of(self.config, options, self.generation_config)

    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int | None = None,
        attention_mask: Tensor | None = None,
        *,
        past_key_values: KVCache | None = None,
        tokenizer: TokenSpelling | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        streamer: Streamer | None = None,
        return_object: bool = False,
        output_scores: bool = False,
        output_router_logits: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        instruments: Sequence[Instrument] = (),
        **options: Any,
    ) -> Tensor | Generated:
        """Extend prompts by greedy search, sampling or beam search, without gradients.

        Args:
            input_ids: [B, S] prompts, padded on the left.
            max_new_tokens: by default that of ``generation_config``, or 20.
            attention_mask: [B, S], 0 on padding; without it, leading padding ids that are no stop ids are padding.
            past_key_values: a cache of the beginning of ``input_ids``, which is then not run again. It is extended;
                copy it to use it twice.
            tokenizer: needed for ``stop_strings``.
            seed: of sampling; without it and without ``generator``, the default random state of torch.
            streamer: called with the new tokens [B] after every step; not with beams.
            return_object: return a ``Generated``; otherwise its sequences [B, S + n].
            output_scores, output_router_logits, output_attentions, output_hidden_states: fields of it to keep.
            instruments: attached to every forward call; its context has phase and step.
            options: the fields of ``GenerationOptions``: ``do_sample``, ``temperature``, ``top_k``, ``top_p``,
                ``min_p``, ``repetition_penalty``, ``num_beams``, ``length_penalty``, ``early_stopping``,
                ``eos_token_id`` (an explicit None never stops), ``pad_token_id``, ``stop_strings``. As in transformers,
                those not given are those of ``generation_config``.

        Raises:
            InputError: an argument breaks a rule.
        """
        if max_new_tokens is not None:
            options["max_new_tokens"] = max_new_tokens
        generation_options = self.generation_options(**options)
        prompt = Prompt.of(input_ids, attention_mask, generation_options, past_key_values)
        kept = {"router_logits": output_router_logits, "attentions": output_attentions}
        kept["hidden_states"] = output_hidden_states
        feed = Feed(self, prompt, instruments, [name for name, keep in kept.items() if keep])
        if generator is None:
            generator = seeded(seed, input_ids.device)
        elif seed is not None:
            raise InputError("only one of seed and generator may be given, got both; leave one out")
        generated = continue_prompt(feed, prompt, generation_options, tokenizer, generator, streamer, output_scores)
        return generated if return_object else generated.sequences


def continue_prompt(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    tokenizer: TokenSpelling | None = None,
    generator: Generators = None,
    streamer: Streamer | None = None,
    keep_scores: bool = False,
) -> Generated:
    """Generate from checked arguments; ``feed`` may be a subclass of ``Feed``."""
    stops = Stops(options, prompt.ids.shape[1] + options.max_new_tokens, prompt.ids.device, tokenizer)
    if options.pad_token_id is None and stops.early and len(prompt.ids) > 1:
        raise InputError("rows that end at different places need a pad_token_id, got None; pass one")
    if options.num_beams > 1 and streamer is not None:
        raise InputError(
            "a streamer needs final tokens, which beam search does not have; leave out streamer or num_beams"
        )
    scores: list[Tensor] | None = [] if keep_scores else None
    with torch.inference_mode():
        if options.num_beams > 1:
            beams = beam_search(feed, prompt, options, stops, generator, scores)
            rows = beams.rows[:, 0]
            counts = (rows >= 0).sum(1)
            length = int(counts.max())
            ids, rows = beams.ids[:, 0, : prompt.ids.shape[1] + length], rows[:, :length]
        else:
            ids, counts = sample(feed, prompt, options, stops, generator, streamer, scores)
    collected = {name: tuple(calls) for name, calls in feed.collected.items()}
    return Generated(
        sequences=ids.clone(),  # outside inference mode, so that they can be used in training
        new_tokens=counts.clone(),
        past_key_values=feed.cache,
        scores=None if scores is None else tuple(scores),
        sequences_scores=beams.scores[:, 0] if options.num_beams > 1 else None,
        beam_rows=rows.clone() if options.num_beams > 1 else None,
        **collected,
    )


def seeded(seed: int | None, device: torch.device) -> torch.Generator | None:
    """A random generator; None, for the default one of torch, without a seed."""
    return None if seed is None else torch.Generator(device).manual_seed(seed)
