"""Model folders: the layouts of Hugging Face, read and written, and those of Mistral, read."""

from mixtral_probe.checkpoint.checkpoint import Checkpoint, model_folder
from mixtral_probe.checkpoint.load import load_model
from mixtral_probe.checkpoint.memory import available_bytes
from mixtral_probe.checkpoint.models import (
    MixtralForCausalLM,
    MixtralForQuestionAnswering,
    MixtralForSequenceClassification,
    MixtralForTokenClassification,
    MixtralModel,
)
from mixtral_probe.checkpoint.names import Layout
from mixtral_probe.checkpoint.pretrained import Pretrained
from mixtral_probe.checkpoint.save import save_model

__all__ = [
    "Checkpoint",
    "Layout",
    "MixtralForCausalLM",
    "MixtralForQuestionAnswering",
    "MixtralForSequenceClassification",
    "MixtralForTokenClassification",
    "MixtralModel",
    "Pretrained",
    "available_bytes",
    "load_model",
    "model_folder",
    "save_model",
]
