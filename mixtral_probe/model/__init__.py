"""The Mixtral forward pass (Jiang et al. 2024, arXiv 2401.04088).

Letters in shapes: B sequences in a batch, S positions in a call, M key positions (S plus what a cache holds),
T = B·S rows, L layers, E experts, K experts chosen per token, H attention heads, D head size, C hidden size,
I expert intermediate size, V vocabulary. Everything counts from 0.
"""

from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.causal_lm import MixtralForCausalLM
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.grouped_experts import ExpertsImplementation
from mixtral_probe.model.heads.outputs import QuestionAnsweringOutput, SequenceClassifierOutput, TokenClassifierOutput
from mixtral_probe.model.heads.question_answering import MixtralForQuestionAnswering
from mixtral_probe.model.heads.sequence_classification import MixtralForSequenceClassification
from mixtral_probe.model.heads.token_classification import MixtralForTokenClassification
from mixtral_probe.model.losses import load_balancing_loss, load_balancing_loss_pooled, router_z_loss
from mixtral_probe.model.model import MixtralModel
from mixtral_probe.model.outputs import CausalLMOutput, ModelOutput
from mixtral_probe.model.sites import AttentionSlice, ExpertSlice, Instrument, Routing, Site

__all__ = [
    "AttentionSlice",
    "CausalLMOutput",
    "ExpertSlice",
    "ExpertsImplementation",
    "ForwardContext",
    "Instrument",
    "KVCache",
    "MixtralForCausalLM",
    "MixtralForQuestionAnswering",
    "MixtralForSequenceClassification",
    "MixtralForTokenClassification",
    "MixtralModel",
    "ModelOutput",
    "Numerics",
    "QuestionAnsweringOutput",
    "Routing",
    "SequenceClassifierOutput",
    "Site",
    "TokenClassifierOutput",
    "load_balancing_loss",
    "load_balancing_loss_pooled",
    "router_z_loss",
]
