"""Running documents through a model."""

from mixtral_probe.engine.attention_choice import AttentionChoice, attention_plan
from mixtral_probe.engine.capture import POSITIONS_IN_A_BATCH, capture
from mixtral_probe.engine.estimate import Estimate, estimate
from mixtral_probe.engine.plan import Plan, plan
from mixtral_probe.engine.progress import CaptureStoppedError, OnProgress, Progress, ShouldStop

__all__ = [
    "POSITIONS_IN_A_BATCH",
    "AttentionChoice",
    "CaptureStoppedError",
    "Estimate",
    "OnProgress",
    "Plan",
    "Progress",
    "ShouldStop",
    "attention_plan",
    "capture",
    "estimate",
    "plan",
]
