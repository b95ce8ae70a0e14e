"""The experiments of a probe."""

from collections.abc import Sequence
from os import PathLike

from mixtral_probe.corpus import Source
from mixtral_probe.experiments import OnRun, time_forward, what_if
from mixtral_probe.experiments.ablation import ABLATION_PLACEBOS, ABLATION_POSITIONS, ablation
from mixtral_probe.experiments.logit_lens import logit_lens
from mixtral_probe.experiments.mean_outputs import mean_expert
from mixtral_probe.experiments.saliency import saliency
from mixtral_probe.experiments.similarity import SAMPLED_TOKENS, expert_subsets, similarity
from mixtral_probe.experiments.what_if import WHAT_IF_PLACEBOS, WHAT_IF_POSITIONS
from mixtral_probe.instruments.edits import Edit, MeanExpert
from mixtral_probe.instruments.placebo import Semantics
from mixtral_probe.model import Instrument
from mixtral_probe.probe.base import ProbeBase, run_options
from mixtral_probe.run import POSITIONS_IN_A_BATCH, OnProgress, Plan, RunOptions, ShouldStop
from mixtral_probe.run.retrace import plan_of_window
from mixtral_probe.trace import (
    AblationResult,
    LogitLensResult,
    SaliencyResult,
    SimilarityResult,
    SubsetsResult,
    TimingResult,
    Trace,
    WhatIf,
)


class ExperimentMethods(ProbeBase):
    """The methods of ``Probe`` that run an experiment and return its result.

    ``source``, ``window``, ``on_progress``, ``should_stop`` and ``positions_in_a_batch`` are those of ``Probe.trace``.
    All methods raise InputError where an argument breaks a rule or does not fit the model.
    """

    def what_if(
        self,
        source: Source | Plan,
        edits: Edit | Sequence[Edit],
        *,
        placebos: int = WHAT_IF_PLACEBOS,
        seed: int = 0,
        generate: int | None = None,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = WHAT_IF_POSITIONS,
    ) -> WhatIf:
        """Run the same text without edits, with them, and with a placebo: what changes in routing, loss, predictions.

        Args:
            edits: one or several from ``mixtral_probe.edits``, applied in the order given.
            placebos: draws of a placebo, 0 for none: as much damage at random. In every layer and document as many
                assignments of each rank as an edit touches, of tokens drawn at random, are damaged in the same way (for
                an edit of weights alone, as many tokens exchange theirs), or as many other heads are changed in the
                same way. The range of D draws holds an exchangeable one in (D − 1) / (D + 1) of cases: 95 % for 39,
                90 % for 19. Of a placebo that can turn out in fewer ways, no more draws are run.
            seed: of the placebo.
            generate: also continue every text by at most this many tokens, without and with the edits, and with each
                draw, which damages as many assignments of new tokens as the edits do.
        """
        options = run_options(window, positions_in_a_batch, on_progress, should_stop)
        planned = self._planned(source, options)
        if isinstance(edits, Edit):
            edits = [edits]
        return what_if(self._subject, planned, options, edits, placebos=placebos, seed=seed, generate=generate)

    def ablation(
        self,
        source: Source | Plan,
        *,
        semantics: Semantics = "mask",
        layers: Sequence[int] | None = None,
        experts: Sequence[int] | None = None,
        placebos: int = ABLATION_PLACEBOS,
        seed: int = 0,
        path: str | PathLike[str] | None = None,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = ABLATION_POSITIONS,
    ) -> AblationResult:
        """Ablate every expert, one at a time, and measure the loss of every document; for ``tables.ablation``.

        Every run begins at the layer it changes, from the stored hidden state before it. Progress counts a token once
        for every run over it.

        Args:
            semantics: "mask": the expert cannot be chosen, the next best takes over, weights sum to 1. "zero": its
                output is 0, weights are kept. "zero_renorm": its output is 0, the other weights of the token are made
                to sum to 1. "mean": its output is its mean over these documents.
            layers, experts: only these; None for all.
            placebos: draws of a placebo after each ablation, 0 for none: the same done to as many assignments of tokens
                to experts drawn at random, rank by rank and document by document. The range of D draws holds an
                exchangeable one in (D − 1) / (D + 1) of cases; p-values come from the draws of all experts together.
                With 7 draws, three experts of many can stand out at a false discovery rate of 5 %; with 20, one alone.
            seed: of the placebo.
            path: a folder to write the result to. An interrupted run with the same arguments continues.
        """
        options = run_options(window, positions_in_a_batch, on_progress, should_stop)
        return ablation(
            self._subject, self._planned(source, options), options, semantics=semantics, layers=layers, experts=experts,
            placebos=placebos, seed=seed, path=path,
        )  # fmt: skip

    def mean_expert(
        self,
        source: Source | Plan,
        *,
        layer: int,
        expert: int,
        window: int | None = None,
        positions_in_a_batch: int = ABLATION_POSITIONS,
    ) -> MeanExpert:
        """The edit that replaces an expert's output by its mean over the tokens of a text that are routed to it."""
        options = run_options(window, positions_in_a_batch)
        return mean_expert(self._subject, self._planned(source, options), options, layer=layer, expert=expert)

    def saliency(
        self,
        source: Source | Plan,
        *,
        promoted: int = 20,
        contexts: int = 8,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> SaliencyResult:
        """Measure how much each expert adds to its tokens, which are super experts, what they promote, and where.

        For ``tables.saliency``, ``tables.promoted_tokens`` and ``tables.expert_contexts``.

        Args:
            promoted: tokens listed per expert that its outputs raise most.
            contexts: places listed per expert where it adds most.
        """
        options = run_options(window, positions_in_a_batch, on_progress, should_stop)
        return saliency(self._subject, self._planned(source, options), options, promoted=promoted, contexts=contexts)

    def similarity(
        self,
        source: Source | Plan | None = None,
        *,
        tokens: int = SAMPLED_TOKENS,
        align: bool = True,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> SimilarityResult:
        """Compare every two experts of a layer, by weights, router rows and outputs.

        For ``tables.expert_similarity`` and ``tables.norm_gate_ranks``.

        Args:
            source: its tokens are the input of every expert, whether routed to it or not; None compares weights alone.
            tokens: at most so many of them, evenly spaced over the documents.
            align: assign neurons to neurons too. Up to 2,048 of an expert by the best assignment, which takes time with
                their cube; beyond that greedily, the largest cosine first, on the model's device: the sum of cosines
                above 0 is at least half of the largest possible (about 98 % of it between unrelated experts), and
                ``aligned_cosine_bound`` of the result is what no assignment exceeds. ``alignment`` says which it was.
        """
        options = run_options(window, positions_in_a_batch, on_progress, should_stop)
        planned = None if source is None else self._planned(source, options)
        return similarity(self._subject, planned, options, tokens=tokens, align=align)

    def expert_subsets(
        self,
        source: Source | Plan,
        *,
        sizes: Sequence[int],
        tokens: int = SAMPLED_TOKENS,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> SubsetsResult:
        """Measure how far each subset of a layer's experts is from all of them, for ``tables.expert_subsets``.

        Args:
            sizes: how many experts are kept, such as [4, 6]: each gives C(E, size) subsets, 10,000 at most in all.
            tokens: at most so many are the input, evenly spaced over the documents.
        """
        options = run_options(window, positions_in_a_batch, on_progress, should_stop)
        return expert_subsets(self._subject, self._planned(source, options), options, sizes=sizes, tokens=tokens)

    def logit_lens(
        self,
        source: Source | Plan,
        *,
        top: int = 5,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> LogitLensResult:
        """Read every layer's prediction, for ``tables.logit_lens`` and ``tables.logit_lens_tokens``.

        Args:
            top: predictions kept of each layer and token.
        """
        options = run_options(window, POSITIONS_IN_A_BATCH, on_progress, should_stop)
        return logit_lens(self._subject, self._planned(source, options), options, top=top)

    def logit_lens_again(self, trace: Trace, *, document: int = 0, chunk: int = 0, top: int = 5) -> LogitLensResult:
        """Do as ``logit_lens`` with one window of a trace of this model."""
        planned = plan_of_window(self._subject, trace, document, chunk)
        return logit_lens(self._subject, planned, RunOptions(), top=top)

    def time(
        self,
        source: Source | Plan,
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
    ) -> TimingResult:
        """Measure where the time and memory of the forward pass go, by site, layer and expert; see ``tables.timing``.

        By the host's clock on a CPU, by events of the device on an accelerator. The cost of timing is measured too: as
        many runs are without timers, in turns with the others.

        Args:
            repeats: runs with timers, and as many without; from 6 on, medians have intervals.
            warmup: runs before them that do not count.
            memory: add one run that counts the bytes of tensors, with the timers off.
            nvtx: name the work to NVIDIA's profilers in the runs with timers.
            instruments: edits that are part of what is timed.
            on_run: called after every run with how many are done, of how many; ``should_stop`` before every run.
        """
        options = run_options(window, positions_in_a_batch, None, should_stop)
        return time_forward(
            self._subject, self._planned(source, options), options, repeats=repeats, warmup=warmup, memory=memory,
            nvtx=nvtx, instruments=instruments, on_run=on_run,
        )  # fmt: skip
