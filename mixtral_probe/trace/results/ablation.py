"""The result of an ablation, and of its parts."""

import numpy as np

from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result


class AblationResult(Result):
    """The loss of every document without ablation, without each expert, and with draws of its placebo.

    For ``tables.ablation``. Counted tokens are those with a loss, special ones out.
    """

    KIND = "ablation"
    TABLES = ("ablation",)

    nll = Array("document")
    """[documents] sum of nll over counted tokens without ablation, nats."""
    tokens = Array("document", counted=True)
    """[documents] counted tokens."""
    ablated = Array("layer", "expert", "document")
    """[layers, experts, documents] sum of nll without the expert, nats."""
    draws = Array("draw", "layer", "expert", "document")
    """[draws, layers, experts, documents] the same with each draw of the expert's placebo; see ``placebo_draws``."""
    log_arrangements = Array("layer", "expert", "document")
    """[layers, experts, documents] natural logarithm of the number of ways in which the placebo can turn out."""
    placebo = Array("layer", "expert", "document")
    """The only draw of the placebo, in a file of an earlier version."""
    routed = Array("layer", "expert", "document", counted=True)
    """[layers, experts, documents] counted tokens that chose the expert."""
    semantics = Setting[str]()
    """What replaces the expert: "mask", "zero", "zero_renorm" or "mean"."""
    num_experts = Setting[int]("experts")
    experts_per_token = Setting[int]()

    @property
    def placebo_draws(self) -> np.ndarray:
        """[draws, layers, experts, documents] whichever version wrote them; without a placebo there are none."""
        if "draws" in self.arrays:
            return self.draws
        return self.placebo[None] if "placebo" in self.arrays else np.empty((0, *self.ablated.shape))


class AblationPart(Result):
    """One layer of one batch of an ablation: as ``AblationResult``, over the documents of the batch."""

    KIND = "ablation part"

    documents = Array("place", whole=True)
    """[d] the documents of the batch."""
    nll = Array("place")
    tokens = Array("place", counted=True)
    ablated = Array("expert", "place")
    draws = Array("draw", "expert", "place")
    log_arrangements = Array("expert", "place")
    placebo = Array("expert", "place")
    routed = Array("expert", "place", counted=True)
