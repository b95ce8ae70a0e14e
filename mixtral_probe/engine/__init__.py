"""Running documents through a model."""

from mixtral_probe.engine.attention_choice import AttentionChoice, attention_plan
from mixtral_probe.engine.capture import POSITIONS_IN_A_BATCH, capture
from mixtral_probe.engine.estimate import Estimate, estimate
from mixtral_probe.engine.expert_methods import ExpertMethods
from mixtral_probe.engine.generation import UNCUT, capture_generation
from mixtral_probe.engine.lens_methods import LensMethods
from mixtral_probe.engine.plan import Plan, plan
from mixtral_probe.engine.progress import CaptureStoppedError, OnProgress, Progress, ShouldStop
from mixtral_probe.engine.streaming import TextStream, new_text
from mixtral_probe.engine.timing import OnRun, time_forward
from mixtral_probe.engine.what_if import what_if
from mixtral_probe.engine.what_if_result import WhatIf, require_free

__all__ = [
    "POSITIONS_IN_A_BATCH",
    "UNCUT",
    "AttentionChoice",
    "CaptureStoppedError",
    "Estimate",
    "ExpertMethods",
    "LensMethods",
    "OnProgress",
    "OnRun",
    "Plan",
    "Progress",
    "ShouldStop",
    "TextStream",
    "WhatIf",
    "attention_plan",
    "capture",
    "capture_generation",
    "estimate",
    "new_text",
    "plan",
    "require_free",
    "time_forward",
    "what_if",
]
