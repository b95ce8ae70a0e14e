"""The estimates of a probe: what each experiment will take."""

from collections.abc import Sequence

from mixtral_probe.corpus import Source
from mixtral_probe.experiments import estimates
from mixtral_probe.experiments.ablation import ABLATION_PLACEBOS, ABLATION_POSITIONS, Sweep
from mixtral_probe.experiments.similarity import SAMPLED_TOKENS
from mixtral_probe.experiments.what_if import WHAT_IF_PLACEBOS, WHAT_IF_POSITIONS
from mixtral_probe.instruments.edits import Edit
from mixtral_probe.probe.base import ProbeBase, run_options
from mixtral_probe.run import POSITIONS_IN_A_BATCH, Plan, RunOptions
from mixtral_probe.run.estimate import ResourceEstimate
from mixtral_probe.run.retrace import plan_of_window
from mixtral_probe.trace import Trace


class EstimateMethods(ProbeBase):
    """The methods of ``Probe`` that estimate an experiment before it runs, with the arguments of its own method.

    The first calibrates on the model's device, which takes at most a second; see ``run.calibration``. All raise
    InputError where an argument breaks a rule.
    """

    def estimate_what_if(
        self,
        source: Source | Plan,
        edits: Sequence[Edit],
        *,
        placebos: int = WHAT_IF_PLACEBOS,
        generate: int | None = None,
        window: int | None = None,
        positions_in_a_batch: int = WHAT_IF_POSITIONS,
    ) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``what_if`` with the same arguments."""
        options = run_options(window, positions_in_a_batch)
        planned = self._planned(source, options)
        return estimates.estimate_what_if(self._subject, planned, options, edits, placebos=placebos, generate=generate)

    def estimate_ablation(
        self,
        source: Source | Plan,
        *,
        layers: Sequence[int] | None = None,
        experts: Sequence[int] | None = None,
        placebos: int = ABLATION_PLACEBOS,
        window: int | None = None,
        positions_in_a_batch: int = ABLATION_POSITIONS,
    ) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``ablation`` with the same arguments."""
        options = run_options(window, positions_in_a_batch)
        sweep = Sweep.of(self.model, "zero", layers, experts, placebos, seed=0)
        return estimates.estimate_ablation(self._subject, self._planned(source, options), options, sweep)

    def estimate_saliency(
        self,
        source: Source | Plan,
        *,
        window: int | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``saliency`` with the same arguments."""
        options = run_options(window, positions_in_a_batch)
        return estimates.estimate_saliency(self._subject, self._planned(source, options), options)

    def estimate_similarity(
        self,
        source: Source | Plan | None = None,
        *,
        tokens: int = SAMPLED_TOKENS,
        align: bool = True,
        window: int | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``similarity`` with the same arguments."""
        options = run_options(window, positions_in_a_batch)
        planned = None if source is None else self._planned(source, options)
        return estimates.estimate_similarity(self._subject, planned, options, tokens=tokens, align=align)

    def estimate_logit_lens(self, source: Source | Plan, *, window: int | None = None) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``logit_lens`` with the same arguments."""
        options = run_options(window, POSITIONS_IN_A_BATCH)
        return estimates.estimate_logit_lens(self._subject, self._planned(source, options), options)

    def estimate_logit_lens_again(self, trace: Trace, *, document: int = 0, chunk: int = 0) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``logit_lens_again`` with the same arguments."""
        planned = plan_of_window(self._subject, trace, document, chunk)
        return estimates.estimate_logit_lens(self._subject, planned, RunOptions())

    def estimate_time(
        self,
        source: Source | Plan,
        *,
        repeats: int = 9,
        warmup: int = 2,
        memory: bool = True,
        window: int | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> ResourceEstimate:
        """Estimate the tokens, memory and seconds of ``time`` with the same arguments."""
        options = run_options(window, positions_in_a_batch)
        planned = self._planned(source, options)
        return estimates.estimate_time(
            self._subject, planned, options, repeats=repeats, warmup=warmup, memory=memory
        )  # fmt: skip
