"""The one list of tables, which report, command line, documentation and dashboard go through."""

from mixtral_probe.tables.attention import HEADS, attention_summary
from mixtral_probe.tables.attention_routing import ATTENTION_ROUTING, attention_routing
from mixtral_probe.tables.balance_loss import balance_loss, balance_loss_breakdown
from mixtral_probe.tables.batches import RELEVANCE, VARIANTS, balance_variants, expert_relevance
from mixtral_probe.tables.caching import CACHE, cache_simulation
from mixtral_probe.tables.capacity import CAPACITY, capacity_simulation
from mixtral_probe.tables.confidence import WORDS, router_confidence, router_confidence_histogram
from mixtral_probe.tables.context import CONTEXT, context_information
from mixtral_probe.tables.divergence import DIVERGENCE, group_divergence
from mixtral_probe.tables.expert_tokens import TOKENS, expert_tokens
from mixtral_probe.tables.load import balance, expert_load, load_by_rank
from mixtral_probe.tables.paths import PATHS, paths
from mixtral_probe.tables.per_token import balance_loss_tokens, routes
from mixtral_probe.tables.placement import PLACEMENT, placement_simulation
from mixtral_probe.tables.skipping import SKIPPING, skipping_simulation
from mixtral_probe.tables.spec import TableSpec, spec
from mixtral_probe.tables.specialization import DOMAIN, INFORMATION, domain_specialization, mutual_information
from mixtral_probe.tables.structure import COACTIVATION, REPETITION, coactivation, repetition
from mixtral_probe.tables.topics import TOPICS, domain_information
from mixtral_probe.tables.transitions import TRANSITIONS, transitions
from mixtral_probe.tables.vocabulary import VOCABULARY, vocabulary_specialization

_LOAD = {
    "share": "share of assignments n_i / (sum of n), 1/E when even",
    "selection_frequency": "share of tokens that chose the expert, n_i / T, K/E when even",
    "gate_share": "mean over tokens of the weight given to the expert, 1/E when even",
    "mean_probability": "mean over tokens of the softmax over all experts, 1/E when even",
}
_BALANCE = {
    "max_violation": "E max f - 1, in [0, E/K - 1]; no interval",
    "min_violation": "1 - E min f, in [0, 1]; no interval",
    "cv_squared": "population variance of the loads / mean squared, in [0, E/K - 1]",
    "gini": "Gini coefficient of the loads, in [0, 1 - K/E]; no interval: near balance it would cover too rarely",
    "normalized_entropy": "H(f) / ln E, in [ln K / ln E, 1]",
    "effective_experts": "exp H(f), in [K, E]",
    "dead_experts": "experts never chosen; no interval",
}
_LOSS = {
    "load_balancing_loss": "E sum f P of one layer, 1 at balance",
    "load_balancing_loss_mean": "mean of the layers' losses, 1 at balance",
    "load_balancing_loss_pooled": "as transformers: all layers concatenated, summed over the K choices, K at balance",
    "load_balancing_loss_pooled_part": "each layer's exact part of the pooled loss; the parts sum to it",
    "router_z_loss": "mean of logsumexp(logits)^2, nats^2; null: all logits 0, (ln E)^2",
}
_PARTS = {
    "contribution": "E f P; over experts it sums to the layer's loss",
    "excess": "E (f - 1/E)(P - 1/E); over experts it sums to the layer's loss - 1",
    "pooling_gap_groups": "E Cov(f, P) over groups; sums to (mean of the groups' losses) - (loss of all)",
    "pooling_gap_layers": "E Cov(f, P) over layers; sums to (mean of the layers' losses) - (pooled loss) / K",
}
_ROUTE = ("expert", "weight", "margin")

TABLES: dict[str, TableSpec] = {
    made.name: made
    for made in (
        spec(
            routes,
            "trace",
            "document chunk position token layer rank",
            {},
            "Which experts each token went to, special tokens too; the margin is that of the token's whole choice.",
            values=_ROUTE,
            per_token=True,
        ),
        spec(expert_load, "stats", "layer group expert", _LOAD, "How much each expert is used."),
        spec(expert_relevance, "stats", "layer group expert", RELEVANCE, "How much of a document each expert takes."),
        spec(
            load_by_rank,
            "stats",
            "layer group expert rank",
            {"rank_share": "share of tokens whose choice of this rank is the expert, 1/E when even"},
            "How much each expert is used as first, second, … choice.",
        ),
        spec(balance, "stats", "layer group", _BALANCE, "How unevenly a layer uses its experts."),
        spec(balance_variants, "stats", "layer group", VARIANTS, "Balance in the other forms that papers give it."),
        spec(balance_loss, "stats", "layer group", _LOSS, "The load-balancing losses and the router z-loss."),
        spec(
            balance_loss_breakdown,
            "stats",
            "layer group expert",
            _PARTS,
            "What each expert adds to the load-balancing loss and what pooling hides, in exact parts.",
        ),
        spec(
            balance_loss_tokens,
            "trace",
            "document chunk position token layer",
            {"token_balance_loss": "E sum f p of one token; its mean over tokens is exactly the layer's loss"},
            "What each token adds to the load-balancing loss.",
            per_token=True,
        ),
        spec(
            router_confidence,
            "stats",
            "layer group statistic",
            WORDS,
            "How sure the router is; null: all logits alike.",
        ),
        spec(
            router_confidence_histogram,
            "stats",
            "layer group bin left right",
            WORDS,
            "Share of tokens in each bin of the router's confidence; bins that hold nothing are left out.",
        ),
        spec(
            attention_summary,
            "trace",
            "layer group head",
            HEADS,
            "What each recorded attention head does on average; null: attention spread evenly over what came before.",
        ),
        spec(
            attention_routing,
            "trace",
            "layer group head expert",
            ATTENTION_ROUTING,
            "How differently the tokens sent to an expert look, head by head, from others at like positions; null 0.",
        ),
        spec(
            domain_specialization,
            "stats",
            "layer group expert",
            DOMAIN,
            "How much more each group of documents uses an expert than all together; empty without groups.",
        ),
        spec(
            group_divergence,
            "stats",
            "layer group other_group",
            DIVERGENCE,
            "How far apart any two groups are in their use of the experts; empty with fewer than two groups.",
        ),
        spec(
            vocabulary_specialization,
            "stats",
            "layer group target min_count weighting expert",
            VOCABULARY,
            "How far token types keep to one expert; rows with an expert are about the types that chose it most.",
        ),
        spec(
            expert_tokens,
            "stats",
            "layer group expert place token_id token",
            TOKENS,
            "The tokens each expert is chosen for most beyond its load, strongest first; n counts the type's tokens.",
        ),
        spec(
            mutual_information,
            "stats",
            "layer group variable",
            INFORMATION,
            "What topic, position and token tell about the expert, bits; topics are told apart in group `all` alone.",
        ),
        spec(
            domain_information,
            "trace",
            "layer group variable min_count",
            TOPICS,
            "What a document's domain tells about the expert, held against documents with shuffled labels.",
        ),
        spec(
            context_information,
            "trace",
            "layer group variable min_count",
            CONTEXT,
            "What a token and those beside it tell about its expert, against shuffled experts.",
        ),
        spec(
            repetition,
            "stats",
            "layer group lag",
            REPETITION,
            "How often tokens 1 to 8 apart go to the same experts; n counts pairs of tokens.",
        ),
        spec(
            coactivation,
            "stats",
            "layer group expert other_expert",
            COACTIVATION,
            "Which experts are chosen together; null: a router with these loads and no preference among pairs.",
        ),
        spec(
            transitions,
            "stats",
            "layer other_layer group expert other_expert",
            TRANSITIONS,
            "From a token's choices in one layer to those in another; rows without experts are about both layers.",
        ),
        spec(paths, "trace", "group place path", PATHS, "The commonest ways of tokens through all layers."),
        spec(
            cache_simulation,
            "trace",
            "layer group policy capacity",
            CACHE,
            "How often an expert would be in a cache of a few experts per layer; windows begin with an empty one.",
        ),
        spec(
            placement_simulation,
            "stats",
            "layer group ranks replicas",
            PLACEMENT,
            "How unevenly devices that share the experts would be loaded.",
        ),
        spec(
            capacity_simulation,
            "trace",
            "layer group capacity_factor bin left right",
            CAPACITY,
            "What an expert that takes only so many tokens of a window would drop; bins are places left to right - 1.",
        ),
        spec(
            skipping_simulation,
            "trace",
            "layer group threshold",
            SKIPPING,
            "How many tokens would do without an expert that weighs little.",
        ),
    )
}
