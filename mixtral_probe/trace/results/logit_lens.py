"""The result of a logit lens."""

from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result


class LogitLensResult(Result):
    """What every layer would predict; ``tables.logit_lens`` and ``tables.logit_lens_tokens``."""

    KIND = "logit_lens"
    TABLES = ("logit_lens", "logit_lens_tokens")

    document = Array("token", whole=True)
    """[T]; so are chunk, position and special."""
    chunk = Array("token", whole=True)
    position = Array("token", whole=True)
    special = Array("token")
    entropy_bits = Array("layer", "token")
    """[L, T] entropy of the prediction."""
    divergence_bits = Array("layer", "token")
    """[L, T] KL from the last layer's prediction to the layer's."""
    next_token_bits = Array("layer", "token")
    """[L, T] the surprise of the next token; NaN at the end of a window."""
    agrees = Array("layer", "token")
    """[L, T] whether the best token is the last layer's."""
    predicted_id = Array("layer", "token", "rank", whole=True)
    """[L, T, top] the most probable tokens."""
    probability = Array("layer", "token", "rank")
    """[L, T, top] their probabilities."""
    document_ids = Setting[list[str]]("documents")
    vocab_size = Setting[int]()
    pieces = Setting[dict[str, str]]()
    """Token id, as text, to the text of the token."""
