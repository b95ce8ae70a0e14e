"""The result of an ablation, and of its parts."""

from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result


class AblationResult(Result):
    """The loss of every document without ablation, without each expert, and with each placebo; ``tables.ablation``.

    Counted tokens are those with a loss, special ones out.
    """

    KIND = "ablation"
    TABLES = ("ablation",)

    nll = Array("document")
    """[documents] sum of nll over counted tokens without ablation, nats."""
    tokens = Array("document")
    """[documents] counted tokens."""
    ablated = Array("layer", "expert", "document")
    """[layers, experts, documents] sum of nll without the expert, nats."""
    placebo = Array("layer", "expert", "document")
    """The same with the expert's placebo; only where placebos ran, see ``has_placebo``."""
    routed = Array("layer", "expert", "document")
    """[layers, experts, documents] counted tokens that chose the expert."""
    semantics = Setting[str]()
    """What replaces the expert: "mask", "zero", "zero_renorm" or "mean"."""
    has_placebo = Setting[bool]("placebo")
    num_experts = Setting[int]("experts")
    experts_per_token = Setting[int]()


class AblationPart(Result):
    """One layer of one batch of an ablation: as ``AblationResult``, over the documents of the batch."""

    KIND = "ablation part"

    documents = Array("place")
    """[d] the documents of the batch."""
    nll = Array("place")
    tokens = Array("place")
    ablated = Array("expert", "place")
    placebo = Array("expert", "place")
    routed = Array("expert", "place")
