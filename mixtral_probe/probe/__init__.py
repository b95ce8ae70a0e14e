"""The face: a model, its tokenizer and what can be done with them in one object."""

from mixtral_probe.probe.probe import Probe

__all__ = ["Probe"]
