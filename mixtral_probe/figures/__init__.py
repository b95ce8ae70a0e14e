"""Tables as plotly figures: each takes a DataFrame of the table of the same noun and computes nothing the table lacks.

Figures are transparent and for a light page; `themed(figure, dark=True)` gives the same for a dark one.
"""

from mixtral_probe.figures.attention.attended_experts import attended_experts
from mixtral_probe.figures.attention.attention_map import attention_map, max_pool
from mixtral_probe.figures.attention.attention_picture import attention_picture
from mixtral_probe.figures.attention.attention_query import attention_query
from mixtral_probe.figures.attention.attention_routing import attention_routing
from mixtral_probe.figures.attention.attention_summary import attention_summary
from mixtral_probe.figures.attention.attention_weights import attention_heads, attention_weights
from mixtral_probe.figures.color import expert_colors, scales
from mixtral_probe.figures.comparisons.agreement import agreement, agreement_experts
from mixtral_probe.figures.comparisons.differences import difference_bars, group_differences, layer_differences
from mixtral_probe.figures.comparisons.saturation import saturation
from mixtral_probe.figures.experiments.ablation import ablation
from mixtral_probe.figures.experiments.expert_similarity import expert_similarity
from mixtral_probe.figures.experiments.expert_subsets import expert_subsets
from mixtral_probe.figures.experiments.logit_lens import logit_lens
from mixtral_probe.figures.experiments.logit_lens_tokens import logit_lens_tokens
from mixtral_probe.figures.experiments.norm_gate_ranks import norm_gate_ranks
from mixtral_probe.figures.experiments.saliency import saliency
from mixtral_probe.figures.experiments.timing import timing, timing_experts
from mixtral_probe.figures.experiments.what_if import what_if, what_if_experts
from mixtral_probe.figures.experiments.what_if_next_tokens import what_if_next_tokens
from mixtral_probe.figures.experiments.what_if_tokens import what_if_tokens
from mixtral_probe.figures.load.balance import balance
from mixtral_probe.figures.load.balance_variants import balance_variants
from mixtral_probe.figures.load.expert_load import expert_load, expert_load_groups, expert_load_map
from mixtral_probe.figures.load.expert_relevance import expert_relevance, expert_relevance_map
from mixtral_probe.figures.load.load_by_rank import load_by_rank
from mixtral_probe.figures.load.router_confidence import router_confidence
from mixtral_probe.figures.load.router_confidence_histogram import router_confidence_histogram
from mixtral_probe.figures.losses.balance_loss import balance_loss
from mixtral_probe.figures.losses.balance_loss_breakdown import balance_loss_breakdown
from mixtral_probe.figures.losses.balance_loss_tokens import balance_loss_tokens
from mixtral_probe.figures.specialization.context_information import context_information
from mixtral_probe.figures.specialization.domain_information import domain_information
from mixtral_probe.figures.specialization.domain_specialization import domain_specialization
from mixtral_probe.figures.specialization.expert_tokens import expert_tokens
from mixtral_probe.figures.specialization.group_divergence import group_divergence
from mixtral_probe.figures.specialization.mutual_information import mutual_information
from mixtral_probe.figures.specialization.vocabulary_specialization import vocabulary_specialization
from mixtral_probe.figures.structure.coactivation import coactivation
from mixtral_probe.figures.structure.paths import paths
from mixtral_probe.figures.structure.repetition import repetition, repetition_lags
from mixtral_probe.figures.structure.route_overlap import route_overlap
from mixtral_probe.figures.structure.token_route import token_route
from mixtral_probe.figures.structure.transitions import transitions
from mixtral_probe.figures.systems.cache_simulation import cache_simulation
from mixtral_probe.figures.systems.capacity_simulation import capacity_simulation
from mixtral_probe.figures.systems.placement_simulation import placement_simulation
from mixtral_probe.figures.systems.skipping_simulation import skipping_simulation, weight_ratio
from mixtral_probe.figures.theme import CONFIG, template, themed

__all__ = [
    "CONFIG",
    "ablation",
    "agreement",
    "agreement_experts",
    "attended_experts",
    "attention_heads",
    "attention_map",
    "attention_picture",
    "attention_query",
    "attention_routing",
    "attention_summary",
    "attention_weights",
    "balance",
    "balance_loss",
    "balance_loss_breakdown",
    "balance_loss_tokens",
    "balance_variants",
    "cache_simulation",
    "capacity_simulation",
    "coactivation",
    "context_information",
    "difference_bars",
    "domain_information",
    "domain_specialization",
    "expert_colors",
    "expert_load",
    "expert_load_groups",
    "expert_load_map",
    "expert_relevance",
    "expert_relevance_map",
    "expert_similarity",
    "expert_subsets",
    "expert_tokens",
    "group_differences",
    "group_divergence",
    "layer_differences",
    "load_by_rank",
    "logit_lens",
    "logit_lens_tokens",
    "max_pool",
    "mutual_information",
    "norm_gate_ranks",
    "paths",
    "placement_simulation",
    "repetition",
    "repetition_lags",
    "route_overlap",
    "router_confidence",
    "router_confidence_histogram",
    "saliency",
    "saturation",
    "scales",
    "skipping_simulation",
    "template",
    "themed",
    "timing",
    "timing_experts",
    "token_route",
    "transitions",
    "vocabulary_specialization",
    "weight_ratio",
    "what_if",
    "what_if_experts",
    "what_if_next_tokens",
    "what_if_tokens",
]
