"""The result of a saliency run."""

from typing import Any

from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result


class SaliencyResult(Result):
    """Sums over the tokens of each expert; ``tables.saliency``, ``promoted_tokens`` and ``expert_contexts``."""

    KIND = "saliency"
    TABLES = ("saliency", "promoted_tokens", "expert_contexts")

    counts = Array("layer", "document", "expert", counted=True)
    """[L, documents, E] tokens routed to the expert, special ones out, as in the other sums."""
    norms = Array("layer", "document", "expert")
    """[L, documents, E] sum of the lengths of the expert's outputs."""
    gated_norms = Array("layer", "document", "expert")
    """[L, documents, E] sum of routing weight times length of output."""
    gates = Array("layer", "document", "expert")
    """[L, documents, E] sum of routing weights."""
    largest = Array("layer", "expert")
    """[L, E] the largest |output| of any channel on any token, special ones too."""
    forming = Array("layer")
    """[L] whether massive activations first appear after the layer."""
    super_experts = Array("layer", "expert")
    """[L, E] whether the expert is a super expert."""
    promoted_ids = Array("layer", "expert", "promoted", whole=True)
    """[L, E, n] the tokens whose logits the expert raises most; -1 for an expert without tokens."""
    promoted_logits = Array("layer", "expert", "promoted")
    """[L, E, n] by how much; NaN for an expert without tokens."""
    context_scores = Array("layer", "expert", "context")
    """[L, E, n] the largest contributions, routing weight times length of output; NaN where there are fewer."""
    context_rows = Array("layer", "expert", "context", whole=True)
    """[L, E, n] the tokens of these, rows of the run; -1 where there are fewer."""
    experts_per_token = Setting[int]()
    pieces = Setting[dict[str, str]]()
    """Token id, as text, to the text of the token."""
    contexts = Setting[dict[str, dict[str, Any]]]()
    """Row, as text, to document, chunk, position, and the text before, of and after the token."""
