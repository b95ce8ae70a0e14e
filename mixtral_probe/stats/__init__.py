"""Mergeable sums of a trace: no larger for a million documents than for 128."""

from mixtral_probe.stats.affinity import TARGETS, Affinity
from mixtral_probe.stats.blocks import MAX_BLOCKS, Blocks, document_keys
from mixtral_probe.stats.cached_stats import STATS_FILE, cache_stats, routing_stats
from mixtral_probe.stats.chunks import MAX_LAG, Chunk, counted_chunks, counted_rows
from mixtral_probe.stats.groups import ALL, LABEL, groups_of, with_all
from mixtral_probe.stats.pairing import SET_METRICS, PairedStats, pair
from mixtral_probe.stats.per_token import CONFIDENCE, NUM_BINS, confidence_edges
from mixtral_probe.stats.routing import RoutingStats
from mixtral_probe.stats.shuffled_repeats import SHUFFLED_REPEATS
from mixtral_probe.stats.structure import POSITION_BUCKETS, Structure, position_buckets
from mixtral_probe.stats.sums import Sums
from mixtral_probe.stats.type_counts import FOLDS, TypeCounts

__all__ = [
    "ALL",
    "CONFIDENCE",
    "FOLDS",
    "LABEL",
    "MAX_BLOCKS",
    "MAX_LAG",
    "NUM_BINS",
    "POSITION_BUCKETS",
    "SET_METRICS",
    "SHUFFLED_REPEATS",
    "STATS_FILE",
    "TARGETS",
    "Affinity",
    "Blocks",
    "Chunk",
    "PairedStats",
    "RoutingStats",
    "Structure",
    "Sums",
    "TypeCounts",
    "cache_stats",
    "confidence_edges",
    "counted_chunks",
    "counted_rows",
    "document_keys",
    "groups_of",
    "pair",
    "position_buckets",
    "routing_stats",
    "with_all",
]
