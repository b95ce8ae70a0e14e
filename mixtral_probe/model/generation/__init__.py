"""Generation: next tokens of prompts one by one, with instruments at every step."""

from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.generate import Generates, continue_prompt
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.output import Generated
from mixtral_probe.model.generation.prompt import Prompt

__all__ = ["Feed", "Generated", "Generates", "GenerationOptions", "Prompt", "continue_prompt"]
