"""The results of comparing the experts of a layer: two by two, and in subsets."""

from typing import Any

from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result

_PAIR = ("layer", "expert", "other_expert")
_PAIR_BY_DOCUMENT = ("layer", "document", "expert", "other_expert")


class SimilarityResult(Result):
    """How alike every two experts are; ``tables.expert_similarity`` and ``tables.norm_gate_ranks``.

    Of weights alone, only ``weight_cosine``, ``neuron_mean_cosine``, ``gate_cosine`` and, where experts were aligned,
    those of the alignment are present; see ``has_outputs``.
    """

    KIND = "expert_similarity"
    TABLES = ("expert_similarity", "norm_gate_ranks")

    weight_cosine = Array(*_PAIR)
    """[L, E, E] of all weights in their order."""
    neuron_mean_cosine = Array(*_PAIR)
    """[L, E, E] of the mean neurons."""
    gate_cosine = Array(*_PAIR)
    """[L, E, E] of the rows of the router."""
    aligned_cosine = Array(*_PAIR)
    """[L, E, E] mean over neurons after the assignment of neurons to neurons that ``alignment`` names."""
    alignment_tau = Array(*_PAIR)
    """[L, E, E] Kendall's tau of that assignment and the order of the weights."""
    aligned_cosine_bound = Array(*_PAIR)
    """[L, E, E] no assignment has a larger mean; after an exact one the mean itself."""
    aligned_cosine_chance = Array()
    """The aligned cosine of random neurons."""
    sampled = Array("document")
    """[documents] tokens of the sample."""
    output_cosine = Array(*_PAIR_BY_DOCUMENT)
    """[L, documents, E, E] sum over the sample of the cosine of the two outputs."""
    output_angular = Array(*_PAIR_BY_DOCUMENT)
    """[L, documents, E, E] sum over the sample of 1 - angle / pi."""
    output_cosine_shuffled = Array(*_PAIR)
    """[L, E, E] mean cosine of outputs for different tokens."""
    linear_cka = Array(*_PAIR)
    """[L, E, E] linear centred kernel alignment of the outputs."""
    linear_cka_shuffled = Array(*_PAIR)
    """[L, E, E] the same with the tokens of one expert shuffled."""
    router_logit_cosine = Array(*_PAIR)
    """[L, E, E] of the two router logits over the sample."""
    rank_counts = Array("layer", "gate_rank", "norm_rank")
    """[L, E, E] tokens by the expert's place in the router's order and in that of the output lengths."""
    model = Setting[dict[str, Any]]()

    @property
    def alignment(self) -> str:
        """How neurons were assigned to neurons: "exact", or "greedy" where experts have many; see ``Probe``."""
        return str(self.meta.get("alignment", "exact"))  # of results that earlier versions wrote

    @property
    def has_outputs(self) -> bool:
        """Whether outputs were compared, not weights alone."""
        return "sampled" in self.arrays


class SubsetsResult(Result):
    """How far the output of each subset of a layer's experts is from that of all; ``tables.expert_subsets``."""

    KIND = "expert_subsets"
    TABLES = ("expert_subsets",)

    error = Array("layer", "subset")
    """[L, subsets] ||F(x; subset) - F(x)|| / ||F(x)||."""
    kept = Array("subset", "expert")
    """[subsets, E] the experts of each subset."""
    sampled = Setting[int]()
    """Tokens of the sample."""
