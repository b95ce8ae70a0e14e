"""``generate``: collect options, run the search, return the result."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.config import GenerationConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.generation.beam import beam_search
from mixtral_probe.model.generation.feed import COLLECTED, Feed
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.output import Generated, Steps
from mixtral_probe.model.generation.precedence import collect_options
from mixtral_probe.model.generation.processors import Allowed, Processor, Scoring
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.sampling import Generators, sample
from mixtral_probe.model.generation.spelling import TokenSpelling
from mixtral_probe.model.generation.stopping import Criterion, Stops
from mixtral_probe.model.generation.streaming import Streamer, TokenCallback, open_stream
from mixtral_probe.model.inputs import WITHOUT_EFFECT as FORWARD_ONLY
from mixtral_probe.model.sites import Instrument


class Generates(BaseModel):
    """A language model with ``generate``."""

    _generation_config: GenerationConfig

    @property
    def generation_config(self) -> GenerationConfig:
        """Defaults of the options of ``generate``: the folder's ``generation_config.json``, else those of its config.

        A mapping, or an object with ``to_dict``, can be assigned.
        """
        return self._generation_config

    @generation_config.setter
    def generation_config(self, config: Any) -> None:
        """Replace them."""
        self._generation_config = GenerationConfig.of(config)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next forward call: ids [B, n] that the cache lacks, and those given.

        Embeddings [B, S, C] are the input of the first call, in place of ids. For libraries that wrap a model of
        transformers, such as PEFT; ``generate`` does not call it.
        """
        past = 0 if past_key_values is None else len(past_key_values)
        first = inputs_embeds is not None and past == 0
        inputs = {"inputs_embeds": inputs_embeds} if first else {"input_ids": input_ids[:, past:]}
        return {**inputs, "past_key_values": past_key_values, **arguments}

    def generation_options(
        self,
        generation_config: Mapping[str, Any] | Any = None,
        prompt_length: int | None = None,
        **options: Any,
    ) -> GenerationOptions:
        """Return the options of a generation, of which some are given; see ``precedence.collect_options``.

        Raises:
            InputError: an option is unknown or breaks a rule.
        """
        given = GenerationConfig.of(generation_config)
        return collect_options(self.config, self.generation_config, options, given, prompt_length)

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: Mapping[str, Any] | Any = None,
        logits_processor: Sequence[Processor] | None = None,
        stopping_criteria: Sequence[Criterion] | None = None,
        prefix_allowed_tokens_fn: Allowed | None = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: KVCache | None = None,
        tokenizer: TokenSpelling | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        streamer: Streamer | TokenCallback | None = None,
        instruments: Sequence[Instrument] = (),
        **options: Any,
    ) -> Tensor | Generated:
        """Extend prompts by greedy search, sampling or beam search, without gradients.

        Args:
            inputs, input_ids: [B, S] prompts, padded on the left, under either name; by default ``bos_token_id``.
            generation_config: options by name, or an object with ``to_dict``, such as that of transformers.
            logits_processor: steps from (ids, scores) to scores, as in ``processors.Scoring``.
            stopping_criteria: functions of (ids, scores) that say which rows end.
            prefix_allowed_tokens_fn: the tokens that may follow, by the number of the prompt and the ids of a row.
            attention_mask: [B, S], 0 on padding; without it, leading padding ids that are no stop ids are padding.
            inputs_embeds: [B, S, C] in place of the ids; the sequences are then the new tokens.
            past_key_values: a cache of the beginning of the prompt, which is then not run again. It is extended;
                copy it to use it twice.
            tokenizer: needed for ``stop_strings``; one of transformers too.
            seed: of sampling; without it and without ``generator``, the default random state of torch.
            streamer: has ``put`` and ``end``, or is called with the new tokens [B] after every step; not with beams.
            instruments: attached to every forward call; its context has phase and step.
            options: the fields of ``GenerationOptions``, and ``max_length`` and ``min_length``, which count the prompt.
                An explicit ``eos_token_id=None`` never stops. As in transformers, those not given are those of
                ``generation_config``.

        Returns:
            sequences [B · R, S + n], R ``num_return_sequences``; with ``return_dict_in_generate`` a ``Generated``.

        Raises:
            InputError: an argument breaks a rule.
        """
        ids = self._prompt_ids(inputs, input_ids, inputs_embeds)
        length = ids.shape[-1] if inputs_embeds is None else inputs_embeds.shape[1]
        options = {name: value for name, value in options.items() if name not in FORWARD_ONLY}
        chosen = self.generation_options(generation_config, length, **options)
        prompt = Prompt.of(ids, attention_mask, chosen, past_key_values, inputs_embeds)
        kept = [name for name in COLLECTED if chosen.return_dict_in_generate and getattr(chosen, f"output_{name}")]
        feed = Feed(self, prompt, instruments, kept)
        if generator is None:
            generator = seeded(seed, prompt.ids.device)
        elif seed is not None:
            raise InputError("only one of seed and generator may be given, got both; leave one out")
        with open_stream(streamer, prompt.ids) as stream:
            generated = continue_prompt(
                feed, prompt, chosen, tokenizer, generator, stream, processors=logits_processor or (),
                criteria=stopping_criteria or (), allowed=prefix_allowed_tokens_fn,
            )  # fmt: skip
        return generated if chosen.return_dict_in_generate else generated.sequences

    def _prompt_ids(self, inputs: Tensor | None, input_ids: Tensor | None, embeddings: Tensor | None) -> Tensor:
        """The prompt under either name, none for embeddings, or else the token that begins every text."""
        if inputs is not None and input_ids is not None:
            raise InputError("inputs and input_ids are two names of the prompt, got both; pass one")
        ids = inputs if input_ids is None else input_ids
        if ids is not None:
            return ids
        if embeddings is not None:
            return torch.empty(len(embeddings), 0, dtype=torch.int64, device=embeddings.device)
        bos = self.generation_config.bos_token_id
        if bos is None:
            raise InputError("generation without a prompt begins with the bos_token_id, got None; pass input_ids")
        return torch.tensor([[bos]], device=self.device)


def continue_prompt(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    tokenizer: TokenSpelling | None = None,
    generator: Generators = None,
    streamer: TokenCallback | None = None,
    *,
    processors: Sequence[Processor] = (),
    criteria: Sequence[Criterion] = (),
    allowed: Allowed | None = None,
) -> Generated:
    """Generate from checked arguments; ``feed`` may be a subclass of ``Feed``."""
    stops = Stops(options, prompt.ids.shape[1] + options.max_new_tokens, prompt.ids.device, tokenizer, criteria)
    if options.pad_token_id is None and stops.early and len(prompt.ids) * options.num_return_sequences > 1:
        raise InputError("rows that end at different places need a pad_token_id, got None; pass one")
    if options.num_beams > 1 and streamer is not None:
        raise InputError(
            "a streamer needs final tokens, which beam search does not have; leave out streamer or num_beams"
        )
    scoring, steps = Scoring(options, prompt, processors, allowed), Steps.of(options)
    with torch.inference_mode():
        if options.num_beams > 1:
            beams = beam_search(feed, prompt, options, scoring, stops, steps, generator)
            found = beams.best(options.num_return_sequences, prompt.ids.shape[1])
        else:
            found = sample(feed, prompt, options, scoring, stops, steps, generator, streamer)
    found = {name: value.clone() for name, value in found.items()}  # outside inference mode, for use in training
    collected = {name: tuple(calls) for name, calls in feed.collected.items()}
    return Generated({**found, **steps.outputs(), **collected}, past_key_values=feed.cache)


def seeded(seed: int | None, device: torch.device) -> torch.Generator | None:
    """A random generator; None, for the default one of torch, without a seed."""
    return None if seed is None else torch.Generator(device).manual_seed(seed)
