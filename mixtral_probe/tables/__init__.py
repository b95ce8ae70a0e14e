"""Tidy tables of a trace or its statistics, one function per table; `TABLES` lists and documents them all."""

from mixtral_probe.tables.ablation import ablation
from mixtral_probe.tables.agreement import agreement, saturation
from mixtral_probe.tables.attention import attention_summary
from mixtral_probe.tables.attention_maps import attended_experts, attention_rollout, attention_weights
from mixtral_probe.tables.attention_routing import attention_routing
from mixtral_probe.tables.balance_loss import balance_loss, balance_loss_breakdown
from mixtral_probe.tables.batches import balance_variants, expert_relevance
from mixtral_probe.tables.caching import cache_simulation
from mixtral_probe.tables.capacity import capacity_simulation
from mixtral_probe.tables.comparisons import COMPARISONS
from mixtral_probe.tables.confidence import router_confidence, router_confidence_histogram
from mixtral_probe.tables.context import context_information
from mixtral_probe.tables.divergence import group_divergence
from mixtral_probe.tables.experiments import EXPERIMENTS
from mixtral_probe.tables.expert_choices import expert_choices
from mixtral_probe.tables.expert_tokens import expert_tokens
from mixtral_probe.tables.load import balance, expert_load, load_by_rank
from mixtral_probe.tables.logit_lens import logit_lens, logit_lens_tokens
from mixtral_probe.tables.paths import paths
from mixtral_probe.tables.per_token import balance_loss_tokens, routes
from mixtral_probe.tables.placement import placement_simulation
from mixtral_probe.tables.real_mixtral import real_mixtral_load
from mixtral_probe.tables.registry import TABLES
from mixtral_probe.tables.route_overlap import route_overlap
from mixtral_probe.tables.saliency import expert_contexts, promoted_tokens, saliency
from mixtral_probe.tables.similarity import expert_similarity, expert_subsets, norm_gate_ranks
from mixtral_probe.tables.skipping import skipping_simulation
from mixtral_probe.tables.spec import COLUMNS, TableSpec
from mixtral_probe.tables.specialization import domain_specialization, mutual_information
from mixtral_probe.tables.structure import coactivation, repetition
from mixtral_probe.tables.timing import timing
from mixtral_probe.tables.topics import domain_information
from mixtral_probe.tables.transitions import transitions
from mixtral_probe.tables.units import token_logits, unit_routes
from mixtral_probe.tables.vocabulary import vocabulary_specialization
from mixtral_probe.tables.what_if import what_if, what_if_next_tokens, what_if_tokens
from mixtral_probe.tables.write import csv_form, write_csv, write_parquet

__all__ = [
    "COLUMNS",
    "COMPARISONS",
    "EXPERIMENTS",
    "TABLES",
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
    "group_divergence",
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
