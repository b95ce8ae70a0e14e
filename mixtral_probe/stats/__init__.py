"""Mergeable sums of a trace: as small for a million documents as for sixty-four."""

from mixtral_probe.stats.blocks import MAX_BLOCKS
from mixtral_probe.stats.per_token import CONFIDENCE, NUM_BINS, confidence_edges
from mixtral_probe.stats.routing import ALL, RoutingStats
from mixtral_probe.stats.sums import Sums

__all__ = ["ALL", "CONFIDENCE", "MAX_BLOCKS", "NUM_BINS", "RoutingStats", "Sums", "confidence_edges"]
