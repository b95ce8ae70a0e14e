"""One object for a model and its tokenizer, with a method for every run and experiment."""

from mixtral_probe.probe.probe import Probe

__all__ = ["Probe"]
