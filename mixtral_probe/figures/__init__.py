"""Tables as plotly figures: each takes a DataFrame of the table of the same noun and computes nothing the table lacks.

Figures are transparent and made for a light page; `themed(figure, dark=True)` gives the same for a dark one.
"""

from mixtral_probe.figures.attention import attention_map, max_pool
from mixtral_probe.figures.attention_links import attention_heads, attention_weights
from mixtral_probe.figures.attention_rows import attended_experts, attention_picture, attention_query
from mixtral_probe.figures.bars import expert_load, expert_relevance, load_by_rank
from mixtral_probe.figures.batches import balance_variants, expert_relevance_map
from mixtral_probe.figures.cells import (
    agreement_experts,
    attention_routing,
    attention_summary,
    balance_loss_breakdown,
    expert_load_groups,
    expert_load_map,
    timing_experts,
)
from mixtral_probe.figures.color import expert_colors, scales
from mixtral_probe.figures.experts import ablation, expert_similarity, norm_gate_ranks, saliency
from mixtral_probe.figures.histogram import router_confidence_histogram
from mixtral_probe.figures.layers import agreement, balance, balance_loss, logit_lens, router_confidence
from mixtral_probe.figures.lens import logit_lens_tokens
from mixtral_probe.figures.specialization import (
    context_information,
    domain_information,
    domain_specialization,
    expert_tokens,
    group_divergence,
    mutual_information,
    vocabulary_specialization,
)
from mixtral_probe.figures.steps import saturation
from mixtral_probe.figures.structure import coactivation, repetition, repetition_lags, transitions
from mixtral_probe.figures.subsets import expert_subsets
from mixtral_probe.figures.systems import (
    cache_simulation,
    capacity_simulation,
    paths,
    placement_simulation,
    skipping_simulation,
    weight_ratio,
)
from mixtral_probe.figures.theme import CONFIG, template, themed
from mixtral_probe.figures.timing import timing
from mixtral_probe.figures.tokens import balance_loss_tokens, route_overlap, token_route
from mixtral_probe.figures.what_if import what_if, what_if_experts, what_if_next_tokens, what_if_tokens

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
    "group_divergence",
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
