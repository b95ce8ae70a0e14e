"""Documents through a model, in batches, into a trace."""

from mixtral_probe.run.attention_choice import AttentionChoice, attention_plan
from mixtral_probe.run.capture import POSITIONS_IN_A_BATCH, capture
from mixtral_probe.run.estimate import Estimate, estimate
from mixtral_probe.run.generation import UNCUT, capture_generation
from mixtral_probe.run.plan import Plan, plan
from mixtral_probe.run.progress import CaptureStoppedError, OnProgress, Progress, ShouldStop
from mixtral_probe.run.streaming import TextStream, new_text

__all__ = [
    "POSITIONS_IN_A_BATCH",
    "UNCUT",
    "AttentionChoice",
    "CaptureStoppedError",
    "Estimate",
    "OnProgress",
    "Plan",
    "Progress",
    "ShouldStop",
    "TextStream",
    "attention_plan",
    "capture",
    "capture_generation",
    "estimate",
    "new_text",
    "plan",
]
