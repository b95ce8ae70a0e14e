"""Tidy tables of a trace, its statistics or a result, one function per table; `TABLES` lists and documents them."""

from mixtral_probe.tables.attention.attended_experts import attended_experts
from mixtral_probe.tables.attention.attention_rollout import attention_rollout
from mixtral_probe.tables.attention.attention_routing import attention_routing
from mixtral_probe.tables.attention.attention_summary import attention_summary
from mixtral_probe.tables.attention.attention_weights import attention_weights
from mixtral_probe.tables.comparisons.agreement import agreement
from mixtral_probe.tables.comparisons.group_differences import group_differences
from mixtral_probe.tables.comparisons.layer_differences import layer_differences
from mixtral_probe.tables.comparisons.saturation import saturation
from mixtral_probe.tables.comparisons.slice_differences import slice_differences
from mixtral_probe.tables.experiments.ablation import ablation
from mixtral_probe.tables.experiments.expert_contexts import expert_contexts
from mixtral_probe.tables.experiments.expert_similarity import expert_similarity
from mixtral_probe.tables.experiments.expert_subsets import expert_subsets
from mixtral_probe.tables.experiments.logit_lens import logit_lens
from mixtral_probe.tables.experiments.logit_lens_tokens import logit_lens_tokens
from mixtral_probe.tables.experiments.norm_gate_ranks import norm_gate_ranks
from mixtral_probe.tables.experiments.promoted_tokens import promoted_tokens
from mixtral_probe.tables.experiments.saliency import saliency
from mixtral_probe.tables.experiments.timing import timing
from mixtral_probe.tables.experiments.what_if import what_if
from mixtral_probe.tables.experiments.what_if_next_tokens import what_if_next_tokens
from mixtral_probe.tables.experiments.what_if_tokens import what_if_tokens
from mixtral_probe.tables.load.balance import balance
from mixtral_probe.tables.load.balance_variants import balance_variants
from mixtral_probe.tables.load.expert_load import expert_load
from mixtral_probe.tables.load.expert_relevance import expert_relevance
from mixtral_probe.tables.load.load_by_rank import load_by_rank
from mixtral_probe.tables.load.real_mixtral_load import real_mixtral_load
from mixtral_probe.tables.load.router_confidence import router_confidence
from mixtral_probe.tables.load.router_confidence_histogram import router_confidence_histogram
from mixtral_probe.tables.losses.balance_loss import balance_loss
from mixtral_probe.tables.losses.balance_loss_breakdown import balance_loss_breakdown
from mixtral_probe.tables.losses.balance_loss_tokens import balance_loss_tokens
from mixtral_probe.tables.registry import COMPARISONS, EXPERIMENTS, METRICS, PARTS, SPECS, TABLES
from mixtral_probe.tables.spec import COLUMNS, Metric, TableSpec
from mixtral_probe.tables.specialization.context_information import context_information
from mixtral_probe.tables.specialization.domain_information import domain_information
from mixtral_probe.tables.specialization.domain_specialization import domain_specialization
from mixtral_probe.tables.specialization.expert_tokens import expert_tokens
from mixtral_probe.tables.specialization.group_divergence import group_divergence
from mixtral_probe.tables.specialization.mutual_information import mutual_information
from mixtral_probe.tables.specialization.vocabulary_specialization import vocabulary_specialization
from mixtral_probe.tables.structure.coactivation import coactivation
from mixtral_probe.tables.structure.expert_choices import expert_choices
from mixtral_probe.tables.structure.paths import paths
from mixtral_probe.tables.structure.repetition import repetition
from mixtral_probe.tables.structure.route_overlap import route_overlap
from mixtral_probe.tables.structure.routes import routes
from mixtral_probe.tables.structure.token_logits import token_logits
from mixtral_probe.tables.structure.transitions import transitions
from mixtral_probe.tables.structure.unit_routes import unit_routes
from mixtral_probe.tables.systems.cache_simulation import cache_simulation
from mixtral_probe.tables.systems.capacity_simulation import capacity_simulation
from mixtral_probe.tables.systems.placement_simulation import placement_simulation
from mixtral_probe.tables.systems.skipping_simulation import skipping_simulation
from mixtral_probe.tables.write import csv_form, write_csv, write_parquet

__all__ = [
    "COLUMNS",
    "COMPARISONS",
    "EXPERIMENTS",
    "METRICS",
    "PARTS",
    "SPECS",
    "TABLES",
    "Metric",
    "TableSpec",
    "ablation",
    "agreement",
    "attended_experts",
    "attention_rollout",
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
    "csv_form",
    "domain_information",
    "domain_specialization",
    "expert_choices",
    "expert_contexts",
    "expert_load",
    "expert_relevance",
    "expert_similarity",
    "expert_subsets",
    "expert_tokens",
    "group_differences",
    "group_divergence",
    "layer_differences",
    "load_by_rank",
    "logit_lens",
    "logit_lens_tokens",
    "mutual_information",
    "norm_gate_ranks",
    "paths",
    "placement_simulation",
    "promoted_tokens",
    "real_mixtral_load",
    "repetition",
    "route_overlap",
    "router_confidence",
    "router_confidence_histogram",
    "routes",
    "saliency",
    "saturation",
    "skipping_simulation",
    "slice_differences",
    "timing",
    "token_logits",
    "transitions",
    "unit_routes",
    "vocabulary_specialization",
    "what_if",
    "what_if_next_tokens",
    "what_if_tokens",
    "write_csv",
    "write_parquet",
]
