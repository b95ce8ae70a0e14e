"""What the referee does not recompute, each with the reason."""

LISTS = {
    "routes", "expert_choices", "token_logits", "what_if_tokens", "what_if_next_tokens", "expert_contexts",
    "promoted_tokens", "logit_lens_tokens", "attention_weights",
}  # fmt: skip
"""Tables that list what was recorded and compute no statistic."""
ELSEWHERE = {
    "real_mixtral_load": "published counts, compared with their source in tests/tables/test_load.py",
    "timing": "medians computed by hand in tests/tables/test_timing.py",
    "unit_routes": "shares computed by hand in tests/strip/test_units.py",
}
DRAWN = "comes from random draws; tests/metrics and tests/tables check them on known truth"
LESS_DRAWN = "a value less its null, which is drawn; the identities are tested"
RATES = "Benjamini and Hochberg of the table's p-values; the identity is tested"
UNIFORM = "uniform routing, simulated; tests/metrics compare the simulation with exact values"
CONSTANT = "the same in every row; the identities are tested"
NO_NULL = "has none"
TESTED = ("domain_information", "domain_specialization", "group_divergence", "mutual_information")
"""Tables whose values are compared with shuffled labels."""

VALUES = {
    ("context_information", "mutual_information_bits_corrected"): LESS_DRAWN,
    ("domain_information", "mutual_information_bits_above_shuffles"): LESS_DRAWN,
    **{(name, "shuffle_p_value"): DRAWN for name in TESTED},
    **{(name, "shuffle_false_discovery"): RATES for name in TESTED},
}
"""By table and metric; a metric that has other values too is not here."""
NULLS = {
    **{("balance", name): UNIFORM for name in ("effective_experts", "gini", "max_violation", "min_violation")},
    ("balance", "normalized_entropy"): UNIFORM,
    ("balance_loss", "router_z_loss"): NO_NULL,
    ("balance_variants", "inverse_simpson"): UNIFORM,
    ("balance_variants", "max_violation_batch"): UNIFORM,
    ("cache_simulation", "hit_rate"): UNIFORM,
    ("cache_simulation", "hit_rate_sequential"): UNIFORM,
    ("capacity_simulation", "dropped_share"): UNIFORM,
    ("context_information", "mutual_information_bits"): DRAWN,
    ("domain_information", "mutual_information_bits"): DRAWN,
    **{(name, metric): CONSTANT for name in TESTED for metric in ("shuffle_p_value", "shuffle_false_discovery")},
    ("expert_relevance", "average_gate_score"): UNIFORM,
    ("expert_relevance", "token_selection_ratio"): UNIFORM,
    ("group_divergence", "js_divergence_bits"): DRAWN,
    ("group_divergence", "load_cosine"): DRAWN,
    ("group_divergence", "normalized_js_divergence"): DRAWN,
    ("paths", "distinct_paths"): DRAWN,
    ("paths", "path_entropy_bits"): DRAWN,
    ("placement_simulation", "rank_imbalance"): UNIFORM,
    ("placement_simulation", "rank_imbalance_eplb"): UNIFORM,
    ("placement_simulation", "rank_imbalance_eplb_crossval"): UNIFORM,
    **{
        ("router_confidence_histogram", name): NO_NULL
        for name in ("router_entropy", "top1_probability", "topk_mass", "selection_margin", "order_margin")
    },
    ("vocabulary_specialization", "vocabulary_specialization"): DRAWN,
}
"""By table and metric."""
SAME_LOADS = {("placement_simulation", "rank_imbalance_eplb_crossval"): DRAWN}
"""Second nulls, by table and metric; those of the policies of a cache that changes are drawn too."""
RARER = "its documents are those of the expert of the pair that is rarer"
STRATA = "every group is a stratum; tests/tables/test_group_gaps.py removes documents from their groups"
INTERVALS = {
    ("balance_loss_breakdown", "pooling_gap_groups"): STRATA,
    ("coactivation", "coactivation_lift"): RARER,
}
"""Intervals, by table and metric."""
