"""What needs a model and gives a result: ablation, saliency, similarity, what-if, timing, logit lens."""

from mixtral_probe.experiments.timing import OnRun, time_forward
from mixtral_probe.experiments.what_if import what_if

__all__ = ["OnRun", "time_forward", "what_if"]
