"""A few lines about statistics, for a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixtral_probe.stats.routing import RoutingStats


def describe(stats: "RoutingStats") -> str:
    """How many tokens, layers and experts, grouped by what, and in how many blocks for the intervals."""
    tokens = int(stats.sums.tokens.sum((1, 2)).max(initial=0))
    groups = "none" if stats.by is None else f"{stats.by}: {', '.join(stats.groups)}"
    blocks = f"{len(stats.block_keys):,} {'blocks of documents' if stats.folded else 'documents'}"
    return "\n".join(
        [
            f"RoutingStats of {tokens:,} tokens: {len(stats.layers):,} layers × {stats.num_experts:,} experts, "
            f"{stats.num_experts_per_tok} per token",
            f"  groups    {groups}",
            f"  intervals from {blocks}",
            f"  special   {'counted' if stats.include_special else 'left out'}",
        ]
    )
