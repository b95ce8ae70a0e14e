"""One object for a model and its tokenizer: text goes in; traces, new text and results of experiments come out."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Unpack

import torch

from mixtral_probe.corpus import Source
from mixtral_probe.errors import InputError
from mixtral_probe.model import Instrument
from mixtral_probe.model.generation import Generated
from mixtral_probe.model.generation.options import GenerationKeywords
from mixtral_probe.probe.estimates import EstimateMethods
from mixtral_probe.probe.experiments import ExperimentMethods
from mixtral_probe.run import (
    POSITIONS_IN_A_BATCH,
    AttentionChoice,
    OnProgress,
    Plan,
    ResourceEstimate,
    RunOptions,
    ShouldStop,
    TextStream,
    attention_plan,
    capture,
    capture_generation,
    estimate,
    new_text,
)
from mixtral_probe.run.retrace import plan_of_window, retrace
from mixtral_probe.trace import Trace
from mixtral_probe.trace.finite import Nonfinite


class Probe(ExperimentMethods, EstimateMethods):
    """Runs text through a Mixtral model and records what its routers do.

    >>> probe = Probe.from_pretrained("mini")
    >>> trace = probe.trace("def add(a, b): return a + b", attention=[0, 3])
    """

    def trace(
        self,
        source: Source | Plan,
        *,
        attention: AttentionChoice = None,
        attention_maps: bool = True,
        router_logits: bool = True,
        path: str | PathLike[str] | None = None,
        window: int | None = None,
        instruments: Sequence[Instrument] = (),
        nonfinite: Nonfinite = "refuse",
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
        generate: int | None = None,
        seed: int = 0,
        add_special_tokens: bool = True,
        **options: Unpack[GenerationKeywords],
    ) -> Trace:
        """Run text and record router logits, chosen experts, weights and, if asked for, attention.

        Args:
            source: a text, a list of texts, documents with labels, a path, or "bundled", see ``read_corpus``; or a
                ``Plan`` of ``plan``.
            attention: layers such as [0, 3], "8-15" or "all", heads as "3:0-7" or {3: range(8)}.
            attention_maps: keep the maps themselves; without them only per-head summaries.
            router_logits: record them; without, only the chosen experts and their weights.
            path: a folder to write while running. An interrupted run of the same text continues; statistics are
                written into it.
            window: tokens after which a document is cut; by default the model's maximum, with a warning.
            instruments: edits, visited before the recorder.
            nonfinite: "refuse" ends the run where router logits or weights are NaN or infinite, as with an overflow of
                float16, and names layer and token; with "skip" such tokens have no choice in those layers, count
                nowhere there, and are counted in ``trace.meta.nonfinite``.
            on_progress, should_stop: called after and before every batch; when ``should_stop`` returns True, the run
                ends with ``RunStoppedError``.
            positions_in_a_batch: padded positions run at once.
            generate: continue every text by at most this many tokens, and record them too: rows of the phase "decode",
                but for the last new token, which is never fed forward. The label "generated" is the new text.
            seed: of what is drawn, for each document by itself.
            add_special_tokens: False for a text that has its control tokens, such as that of a chat template.
            options: with ``generate``, how tokens are chosen: the fields of ``GenerationOptions``, such as
                ``do_sample=True``, ``temperature``, ``top_p``, ``num_beams``, ``eos_token_id``, ``stop_strings``. Those
                left out are those of the model's ``generation_config.json``.

        Raises:
            InputError: an argument breaks a rule, or does not fit the model; the sentence says what to do.
        """
        run = RunOptions(
            window=window, add_special_tokens=add_special_tokens, positions_in_a_batch=positions_in_a_batch,
            on_progress=on_progress, should_stop=should_stop,
        )  # fmt: skip
        how: dict[str, Any] = {
            "attention": attention_plan(attention, self.model.config, attention_maps),
            "router_logits": router_logits,
            "path": path,
            "instruments": instruments,
            "nonfinite": nonfinite,
        }
        if generate is None:
            if options:
                raise InputError(f"{min(options)} says how tokens are generated, so it needs generate=N")
            return capture(self._subject, self._planned(source, run), run, **how)
        prompts = self._prompts(source, window, add_special_tokens)
        _require_one_sequence(options)
        chosen: dict[str, Any] = {**options, "max_new_tokens": generate, "num_return_sequences": 1}
        choice = self.model.generation_options(**chosen)
        return capture_generation(self._subject, prompts, run, choice, seed=seed, **how)

    def estimate(
        self,
        source: Source | Plan,
        *,
        attention: AttentionChoice = None,
        attention_maps: bool = True,
        window: int | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
        generate: int | None = None,
    ) -> ResourceEstimate:
        """Estimate the tokens, memory, disk and seconds of ``trace`` with the same arguments."""
        options = RunOptions(window=window, positions_in_a_batch=positions_in_a_batch)
        planned = self._planned(source, options) if generate is None else self._prompts(source, window)
        attended = attention_plan(attention, self.model.config, attention_maps)
        return estimate(self._subject, planned, options, attention=attended, new_tokens=generate or 0)

    def generate(
        self,
        text: str,
        max_new_tokens: int | None = None,
        *,
        on_text: Callable[[str], None] | None = None,
        seed: int | None = None,
        instruments: Sequence[Instrument] = (),
        add_special_tokens: bool = True,
        **options: Unpack[GenerationKeywords],
    ) -> str:
        """Continue a text, and return the new part.

        Args:
            max_new_tokens: by default that of the model's ``generation_config.json``, or 20.
            on_text: called with each piece of new text as soon as it is complete.
            seed: of what is drawn; by default torch's own random state.
            instruments: attached to every forward call.
            add_special_tokens, options: as in ``trace``.

        Raises:
            InputError: an argument breaks a rule, or the text has no token or one that the model lacks.
        """
        encoded = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        self.tokenizer.check_fits(encoded, self.model.config)
        prompt = encoded.tolist()
        if not prompt:
            raise InputError("generation continues at least one token, got a text of none; give a text")
        ids = torch.tensor([prompt], device=self._subject.device)
        stream = None if on_text is None else TextStream(self.tokenizer, prompt, on_text)
        _require_one_sequence(options)
        chosen: dict[str, Any] = {**options, "return_dict_in_generate": True, "num_return_sequences": 1}
        if max_new_tokens is not None:
            chosen["max_new_tokens"] = max_new_tokens
        generated = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), tokenizer=self.tokenizer, seed=seed, streamer=stream,
            instruments=instruments, **chosen,
        )  # fmt: skip
        assert isinstance(generated, Generated)
        if stream is not None:
            stream.finish()
        return new_text(self.tokenizer, prompt, generated.sequences[0, len(prompt) :].tolist())

    def retrace(self, trace: Trace, *, document: int = 0, chunk: int = 0, attention: AttentionChoice = "all") -> Trace:
        """Run one window of a trace again, to record what the trace lacks: a trace of that window alone.

        Args:
            trace: of this model.
            document, chunk: the window.
            attention: layers and heads to record this time, as in ``trace``.

        Raises:
            InputError: the trace is of another model, or lacks the window or its token ids.
        """
        planned = plan_of_window(self._subject, trace, document, chunk)
        return retrace(self._subject, trace, planned, attention_plan(attention, self.model.config))

    def _prompts(self, source: Source | Plan, window: int | None, add_special_tokens: bool = True) -> Plan:
        """The plan of texts to be continued, none of them cut."""
        if not isinstance(source, Plan):
            return self.plan(source, window=window, add_special_tokens=add_special_tokens, cut=False)
        if window is not None or len(source.windows) > len(source.documents):
            raise InputError("a text to be continued is not cut, got a plan with windows; plan with cut=False")
        return source


def _require_one_sequence(options: Mapping[str, Any]) -> None:
    if (count := options.get("num_return_sequences", 1)) != 1:
        raise InputError(
            f"a text is continued once, got num_return_sequences={count}; give the text several times, or use "
            "Probe.model.generate"
        )
