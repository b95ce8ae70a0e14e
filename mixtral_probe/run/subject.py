"""The subject of a run: a model with its tokenizer and its name."""

from dataclasses import dataclass

import torch

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.tokenizer import Tokenizer


@dataclass(frozen=True)
class Subject:
    """The subject model of a run, as every capture and experiment takes it."""

    model: MixtralForCausalLM
    tokenizer: Tokenizer
    name: str = ""

    @property
    def config(self) -> MixtralConfig:
        """Of the model."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """The device of the unembedding, where ids go in and logits come out."""
        return self.model.lm_head.weight.device
