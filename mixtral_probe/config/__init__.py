"""The configuration of a Mixtral model: a Hugging Face ``config.json``, read in every spelling and checked."""

from mixtral_probe.config.config import MixtralConfig
from mixtral_probe.config.generation import GENERATION_CONFIG, GenerationConfig
from mixtral_probe.config.rope import DEFAULT_ROPE_THETA, ROPE_TYPES
from mixtral_probe.config.rules import ACTIVATIONS

__all__ = [
    "ACTIVATIONS",
    "DEFAULT_ROPE_THETA",
    "GENERATION_CONFIG",
    "ROPE_TYPES",
    "GenerationConfig",
    "MixtralConfig",
]
