"""The face: a model, its tokenizer and the engine in one object."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch

from mixtral_probe.checkpoint import MixtralForCausalLM
from mixtral_probe.checkpoint.checkpoint import model_folder
from mixtral_probe.checkpoint.placement import DeviceMap
from mixtral_probe.corpus import Source, corpus_name, read_corpus
from mixtral_probe.errors import InputError
from mixtral_probe.experiments import OnRun, WhatIf, time_forward, what_if
from mixtral_probe.instruments.edits import Edit
from mixtral_probe.model import Instrument, Numerics
from mixtral_probe.model.generation import Generated, GenerationOptions
from mixtral_probe.probe.expert_methods import ExpertMethods
from mixtral_probe.probe.lens_methods import LensMethods
from mixtral_probe.run import (
    POSITIONS_IN_A_BATCH,
    UNCUT,
    AttentionChoice,
    Estimate,
    OnProgress,
    ShouldStop,
    TextStream,
    attention_plan,
    capture,
    capture_generation,
    estimate,
    new_text,
    plan,
)
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Result, Trace


class Probe(ExpertMethods, LensMethods):
    """Runs text through a Mixtral model and returns what its routers did.

    >>> probe = Probe.from_pretrained("mini")
    >>> trace = probe.trace("def add(a, b): return a + b", attention=[0, 3])
    """

    def __init__(self, model: MixtralForCausalLM, tokenizer: Tokenizer, name: str = "") -> None:
        tokenizer.check_fits(model.config)
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path = "mini",
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        numerics: Numerics = "fast",
        device_map: DeviceMap | None = None,
    ) -> Self:
        """Open a model folder; "mini" is the embedded model. Arguments as in ``MixtralForCausalLM.from_pretrained``."""
        tokenizer = Tokenizer.from_folder(model_folder(folder))
        name = "mixtral-mini" if str(folder) == "mini" else Path(folder).name
        return cls(MixtralForCausalLM.from_pretrained(folder, dtype, device, numerics, device_map), tokenizer, name)

    def trace(
        self,
        source: Source,
        *,
        attention: AttentionChoice = None,
        attention_maps: bool = True,
        router_logits: bool = True,
        path: str | PathLike[str] | None = None,
        window: int | None = None,
        instruments: Sequence[Instrument] = (),
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
        generate: int | None = None,
        seed: int = 0,
        add_special_tokens: bool = True,
        **options: Any,
    ) -> Trace:
        """Run text and record router logits, chosen experts, weights and, if asked for, attention.

        Args:
            source: a text, a list of texts, documents with labels, a path, or "bundled"; see ``read_corpus``.
            attention: layers such as [0, 3], "8-15" or "all", heads as "3:0-7" or {3: range(8)}.
            attention_maps: keep the maps themselves; without them only per-head summaries.
            router_logits: record them; without, only the chosen experts and their weights.
            path: a folder to write while running. An interrupted run of the same text continues; statistics are
                written beside it.
            window: tokens after which a document is cut; by default the model's maximum.
            instruments: edits, visited before the recorder.
            on_progress, should_stop: called after and before every batch.
            positions_in_a_batch: padded positions run at once.
            generate: continue every text by at most this many tokens, and record them too: rows of the phase "decode",
                but for the last new token, which is never fed forward. The label "generated" is the new text.
            seed: of what is drawn, for each document by itself.
            add_special_tokens: False for a text that has its control tokens, such as that of a chat template.
            options: with ``generate``, how tokens are chosen: the fields of ``GenerationOptions``, such as
                ``do_sample=True``, ``temperature``, ``top_p``, ``num_beams``, ``eos_token_id``, ``stop_strings``.

        Raises:
            InputError: something asked for does not exist or does not fit; the sentence says what to do.
        """
        documents = read_corpus(source)
        how: dict[str, Any] = {
            "attention": attention_plan(attention, self.model.config, attention_maps),
            "router_logits": router_logits,
            "path": path,
            "model_name": self.name,
            "corpus_name": corpus_name(source),
            "instruments": instruments,
            "on_progress": on_progress,
            "should_stop": should_stop,
            "positions_in_a_batch": positions_in_a_batch,
            "add_special_tokens": add_special_tokens,
        }
        if generate is None:
            if options:
                raise InputError(f"{min(options)} says how tokens are generated, so it needs generate=N")
            return capture(self.model, self.tokenizer, documents, window=window, **how)
        _refuse_window(window)
        chosen = GenerationOptions.of(self.model.config, {"max_new_tokens": generate, **options})
        return capture_generation(self.model, self.tokenizer, documents, chosen, seed=seed, **how)

    def generate(
        self,
        text: str,
        max_new_tokens: int = 20,
        *,
        on_text: Callable[[str], None] | None = None,
        seed: int | None = None,
        instruments: Sequence[Instrument] = (),
        add_special_tokens: bool = True,
        **options: Any,
    ) -> str:
        """What the model says after a text.

        Args:
            on_text: called with each piece of new text as soon as it is there.
            seed: of what is drawn; by default torch's own random state.
            instruments: attached to every forward call.
            add_special_tokens: False for a text that has its control tokens, such as that of a chat template.
            options: as in ``trace``.

        Raises:
            InputError: an argument breaks a rule, or the text has no token.
        """
        prompt = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids.tolist()
        if not prompt:
            raise InputError("there must be at least one token to go on from, but the text has none")
        ids = torch.tensor([prompt], device=self.model.lm_head.weight.device)
        stream = None if on_text is None else TextStream(self.tokenizer, prompt, on_text)
        made = self.model.generate(
            ids, max_new_tokens, torch.ones_like(ids), tokenizer=self.tokenizer, seed=seed, streamer=stream,
            instruments=instruments, return_object=True, **options,
        )  # fmt: skip
        assert isinstance(made, Generated)
        if stream is not None:
            stream.finish()
        return new_text(self.tokenizer, prompt, made.sequences[0, len(prompt) :].tolist())

    def estimate(
        self,
        source: Source,
        *,
        attention: AttentionChoice = None,
        attention_maps: bool = True,
        window: int | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
        generate: int | None = None,
    ) -> Estimate:
        """What ``trace`` with these arguments will take: tokens, memory, disk, seconds."""
        config = self.model.config
        if generate is not None:
            _refuse_window(window)
            window = UNCUT
        planned = plan(
            read_corpus(source), self.tokenizer, config.max_position_embeddings if window is None else window
        )
        attended = attention_plan(attention, config, attention_maps)
        return estimate(self.model, planned, attended, positions_in_a_batch, generate or 0)

    def time(
        self,
        source: Source,
        *,
        repeats: int = 9,
        warmup: int = 2,
        memory: bool = True,
        nvtx: bool = False,
        window: int | None = None,
        instruments: Sequence[Instrument] = (),
        on_run: OnRun | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> Result:
        """Measure where the time and memory of the forward pass go, by site, layer and expert; see ``tables.timing``.

        By the host's clock on a CPU, by events of the device on an accelerator. What timing itself costs is measured
        too: as many runs are made without timers, in turns with the others.

        Args:
            source: as in ``trace``; it is run in the same batches.
            repeats: runs with timers, and as many without; from 6 on, medians have intervals.
            warmup: runs before them that do not count.
            memory: make one more run that counts the bytes of tensors, with the timers off.
            nvtx: name the work to NVIDIA's profilers in the runs with timers.
            window, instruments, positions_in_a_batch: as in ``trace``; edits are part of what is timed.
            on_run: called after every run with how many are done, of how many.
            should_stop: looked at before every run.

        Raises:
            InputError: something asked for does not exist or does not fit; the sentence says what to do.
        """
        return time_forward(
            self.model, self.tokenizer, read_corpus(source), repeats=repeats, warmup=warmup, memory=memory, nvtx=nvtx,
            window=window, instruments=instruments, on_run=on_run, should_stop=should_stop,
            positions_in_a_batch=positions_in_a_batch, model_name=self.name, corpus_name=corpus_name(source),
        )  # fmt: skip

    def what_if(
        self,
        source: Source,
        edits: Sequence[Edit],
        *,
        placebo: bool = True,
        seed: int = 0,
        generate: int | None = None,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> WhatIf:
        """Run the same text without edits, with them, and with a placebo: what changes in routing, loss, predictions.

        Args:
            source: as in ``trace``.
            edits: from ``mixtral_probe.edits``, applied in the order given.
            placebo: run beside them as much damage of nothing in particular: in every layer and document as many
                assignments of each rank as an edit touches, of tokens drawn at random, are damaged alike (for an edit
                of weights alone, as many tokens exchange theirs), or as many other heads are changed alike.
            seed: of the placebo.
            generate: also continue every text by at most this many tokens, without and with the edits.
            window, on_progress, should_stop: as in ``trace``.

        Raises:
            InputError: an edit does not fit the model, or the source breaks a rule.
        """
        return what_if(
            self.model, self.tokenizer, read_corpus(source), edits, placebo=placebo, seed=seed, generate=generate,
            window=window, model_name=self.name, corpus_name=corpus_name(source), on_progress=on_progress,
            should_stop=should_stop,
        )  # fmt: skip


def _refuse_window(window: int | None) -> None:
    if window is not None:
        raise InputError("a text that is continued is not cut, but both window and generate came; leave one out")
