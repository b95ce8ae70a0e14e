"""Routing metrics: formulas on plain arrays, one value each, with source, range and unit."""

from mixtral_probe.metrics.attention import (
    attended_share,
    attention_difference,
    attention_distance,
    attention_entropy_bits,
    attention_rollout,
    attention_sink_share,
    even_attention,
    spread_within,
)
from mixtral_probe.metrics.experiments.predictions import (
    log_probabilities,
    prediction_divergence_bits,
    prediction_entropy_bits,
)
from mixtral_probe.metrics.experiments.saliency import (
    expert_activation_norm,
    expert_subsets,
    is_massive,
    rank_counts,
    reap_saliency,
    subset_error,
    super_expert_threshold,
    super_experts,
)
from mixtral_probe.metrics.experiments.similarity import (
    align_neurons,
    aligned_cosine,
    angular_similarity,
    chance_aligned_cosine,
    cosine_of_products,
    cosine_similarity,
    linear_cka,
    neuron_mean_cosine,
    order_tau,
    pair_correlation,
    shuffled_cosine,
    shuffled_linear_cka,
)
from mixtral_probe.metrics.experiments.timing import median_interval
from mixtral_probe.metrics.load.balance import (
    cv_squared,
    dead_experts,
    effective_experts,
    gini,
    inverse_simpson,
    load_chi_squared,
    max_violation,
    min_violation,
    normalized_entropy,
    relative_load,
    selection_frequency,
)
from mixtral_probe.metrics.load.nulls import (
    expected_cv_squared,
    expected_dead_experts,
    expected_importance_cv_squared,
    expected_max_violation,
    simulated_null,
    uniform_counts,
)
from mixtral_probe.metrics.losses.balance_loss import (
    chance_device_balance_loss,
    chance_load_balancing_loss,
    device_balance_loss,
    gshard_loss,
    load_balancing_contribution,
    load_balancing_excess,
    load_balancing_loss,
    pooling_gap,
    token_balance_loss,
    weighted_mean,
)
from mixtral_probe.metrics.losses.histograms import histogram_quantile
from mixtral_probe.metrics.losses.router import chosen_mask, order_margin, router_entropy, selection_margin, softmax
from mixtral_probe.metrics.permutation import (
    MIN_ARRANGEMENTS,
    Alternative,
    distinct_arrangements,
    shuffled_labels,
    studentised_p_values,
)
from mixtral_probe.metrics.ranks import Ranks, draw_level, draw_p_value, draw_rank, rank_intervals
from mixtral_probe.metrics.ratios import ratio, share
from mixtral_probe.metrics.resampling import Jackknife, jackknife, jackknife_interval
from mixtral_probe.metrics.specialization.divergence import (
    js_divergence_bits,
    load_cosine,
    normalized_js_divergence,
    top_p_jaccard,
)
from mixtral_probe.metrics.specialization.group_loads import (
    GroupLoads,
    difference_t,
    group_loads,
    spread_divergence_bits,
    spread_information_bits,
)
from mixtral_probe.metrics.specialization.information import (
    choice_exclusion,
    conditional_mutual_information_bias,
    conditional_mutual_information_bits,
    cramers_v,
    enough_tokens,
    independent_cramers_v,
    mutual_information_bias,
    mutual_information_bits,
    pair_exclusion,
)
from mixtral_probe.metrics.specialization.lift import (
    MIN_FOLDS,
    consistent_lift_p_values,
    false_discovery_rates,
    lift_p_values,
    token_lift,
    token_log_odds,
    token_npmi,
)
from mixtral_probe.metrics.specialization.vocabulary import (
    Weighting,
    expected_largest_share,
    largest_share,
    mean_over_types,
    occurrences,
    type_weights,
    vocabulary_specialization,
)
from mixtral_probe.metrics.specialization.vocabulary_crossval import (
    CrossValidation,
    vocabulary_specialization_crossval,
)
from mixtral_probe.metrics.structure.coactivation import (
    buddy_share,
    coactivation_conditional,
    coactivation_jaccard,
    coactivation_lift,
    expected_pairs,
    lookup_hits,
)
from mixtral_probe.metrics.structure.paths import entropy_bits, path_counts
from mixtral_probe.metrics.structure.repetition import (
    disjoint_sets,
    independent_repetition,
    overlap,
    repetition_any,
    repetition_first,
    set_index,
    uniform_repetition,
)
from mixtral_probe.metrics.structure.sets import OfSets, same_set, set_hamming, set_jaccard, set_overlap, uniform_sets
from mixtral_probe.metrics.systems.caching import (
    POLICIES,
    cache_hits,
    simulated_cache_hit_rate,
    static_cache_hits,
    uniform_cache_hit_rate,
)
from mixtral_probe.metrics.systems.capacity import choice_places, exchanged_drops, expected_drops, expert_capacity
from mixtral_probe.metrics.systems.exchange import EXCHANGES, exchanged_counts, exchanged_windows
from mixtral_probe.metrics.systems.placement import eplb_placement, rank_imbalance, rank_load

__all__ = [
    "EXCHANGES", "MIN_ARRANGEMENTS", "MIN_FOLDS", "POLICIES", "Alternative", "CrossValidation", "GroupLoads",
    "Jackknife", "OfSets", "Ranks", "Weighting", "align_neurons", "aligned_cosine", "angular_similarity",
    "attended_share", "attention_difference", "attention_distance", "attention_entropy_bits", "attention_rollout",
    "attention_sink_share", "buddy_share", "cache_hits", "chance_aligned_cosine", "chance_device_balance_loss",
    "chance_load_balancing_loss", "choice_exclusion", "choice_places", "chosen_mask", "coactivation_conditional",
    "coactivation_jaccard", "coactivation_lift", "conditional_mutual_information_bias",
    "conditional_mutual_information_bits", "consistent_lift_p_values", "cosine_of_products", "cosine_similarity",
    "cramers_v", "cv_squared", "dead_experts", "device_balance_loss", "difference_t", "disjoint_sets",
    "distinct_arrangements", "draw_level", "draw_p_value", "draw_rank", "effective_experts", "enough_tokens",
    "entropy_bits", "eplb_placement", "even_attention", "exchanged_counts", "exchanged_drops", "exchanged_windows",
    "expected_cv_squared", "expected_dead_experts", "expected_drops", "expected_importance_cv_squared",
    "expected_largest_share", "expected_max_violation", "expected_pairs", "expert_activation_norm", "expert_capacity",
    "expert_subsets", "false_discovery_rates", "gini", "group_loads", "gshard_loss", "histogram_quantile",
    "independent_cramers_v", "independent_repetition", "inverse_simpson", "is_massive", "jackknife",
    "jackknife_interval", "js_divergence_bits", "largest_share", "lift_p_values", "linear_cka",
    "load_balancing_contribution", "load_balancing_excess", "load_balancing_loss", "load_chi_squared", "load_cosine",
    "log_probabilities", "lookup_hits", "max_violation", "mean_over_types", "median_interval", "min_violation",
    "mutual_information_bias", "mutual_information_bits", "neuron_mean_cosine", "normalized_entropy",
    "normalized_js_divergence", "occurrences", "order_margin", "order_tau", "overlap", "pair_correlation",
    "pair_exclusion", "path_counts", "pooling_gap", "prediction_divergence_bits", "prediction_entropy_bits",
    "rank_counts", "rank_imbalance", "rank_intervals", "rank_load", "ratio", "reap_saliency", "relative_load",
    "repetition_any", "repetition_first", "router_entropy", "same_set", "selection_frequency", "selection_margin",
    "set_hamming", "set_index", "set_jaccard", "set_overlap", "share", "shuffled_cosine", "shuffled_labels",
    "shuffled_linear_cka", "simulated_cache_hit_rate", "simulated_null", "softmax", "spread_divergence_bits",
    "spread_information_bits", "spread_within", "static_cache_hits", "studentised_p_values", "subset_error",
    "super_expert_threshold", "super_experts", "token_balance_loss", "token_lift", "token_log_odds", "token_npmi",
    "top_p_jaccard", "type_weights", "uniform_cache_hit_rate", "uniform_counts", "uniform_repetition", "uniform_sets",
    "vocabulary_specialization", "vocabulary_specialization_crossval", "weighted_mean",
]  # fmt: skip
