"""Documents through a model, in batches, into a trace."""

from mixtral_probe.run.attention_choice import AttentionChoice, attention_plan
from mixtral_probe.run.capture import capture
from mixtral_probe.run.estimate import ResourceEstimate, estimate
from mixtral_probe.run.generation import TextStream, capture_generation, new_text
from mixtral_probe.run.options import POSITIONS_IN_A_BATCH, UNCUT, RunOptions
from mixtral_probe.run.passes import Passes
from mixtral_probe.run.plan import Plan, plan
from mixtral_probe.run.progress import OnProgress, Progress, RunStoppedError, ShouldStop
from mixtral_probe.run.subject import Subject

__all__ = [
    "POSITIONS_IN_A_BATCH",
    "UNCUT",
    "AttentionChoice",
    "OnProgress",
    "Passes",
    "Plan",
    "Progress",
    "ResourceEstimate",
    "RunOptions",
    "RunStoppedError",
    "ShouldStop",
    "Subject",
    "TextStream",
    "attention_plan",
    "capture",
    "capture_generation",
    "estimate",
    "new_text",
    "plan",
]
