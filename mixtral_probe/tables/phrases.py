"""Words of several tables: what is missing and why, and the names of reference lines."""

NO_LOGITS = "router logits were not recorded"
NO_GATES = "neither expert weights nor router logits were recorded"
NO_GROUPS = "statistics by a label of the documents are needed: RoutingStats.from_trace(trace, by=…)"
OLD_STATISTICS = (
    "statistics of an earlier version lack values of single windows and documents; make them again from the trace"
)
NOT_SMOOTH = "no interval: not smooth"
STRONGEST = "no interval: the strongest of many, which an interval would not allow for"
RARE_TYPES = "no interval: most types are too rare for one to hold"

EVEN_USE = "even use"
BALANCED = "balanced"
UNIFORM = "uniform routing"
INDEPENDENT = "independent routing"
SAME_LOAD = "random order"
"""What the second null, the column `null_same_load`, is called: the same tokens in random order."""
PERMUTED_EXPERTS = "null: each token's experts permuted"
"""What scope says of a loss under independent routing."""
LOGITS_ALIKE = "all logits alike"
EVEN_ATTENTION = "even attention"
INDEPENDENT_LAYERS = "independent layers"
NO_PREFERENCE = "no preference"
NO_DIFFERENCE = "no difference"
CHANCE_ALONE = "chance alone"
NOTHING_TO_TELL = "nothing to tell"
PLACEBO = "placebo"
UNRELATED = "unrelated"
SHARE = (0.0, 1.0)
POSITIVE = (0.0, float("inf"))
"""The ranges of a share and of what cannot be negative."""
