"""Capture while generating."""

from mixtral_probe.run.generation.capture import capture_generation
from mixtral_probe.run.generation.streaming import TextStream, new_text

__all__ = ["TextStream", "capture_generation", "new_text"]
