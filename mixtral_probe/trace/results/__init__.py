"""The results of experiments: a type for each kind, with named fields."""

from mixtral_probe.trace.results.ablation import AblationPart, AblationResult
from mixtral_probe.trace.results.logit_lens import LogitLensResult
from mixtral_probe.trace.results.result import Result
from mixtral_probe.trace.results.saliency import SaliencyResult
from mixtral_probe.trace.results.similarity import SimilarityResult, SubsetsResult
from mixtral_probe.trace.results.timing import TimingResult
from mixtral_probe.trace.results.what_if import CANDIDATES, RUNS, WhatIf, require_free

__all__ = [
    "CANDIDATES",
    "RUNS",
    "AblationPart",
    "AblationResult",
    "LogitLensResult",
    "Result",
    "SaliencyResult",
    "SimilarityResult",
    "SubsetsResult",
    "TimingResult",
    "WhatIf",
    "require_free",
]
