"""How documents go through a model, whatever is recorded or measured on the way."""

from dataclasses import dataclass

from mixtral_probe.run.progress import OnProgress, ShouldStop

POSITIONS_IN_A_BATCH = 4096
UNCUT = 2**31 - 1
"""A window that no document fills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Windows, batches, progress and stop of one run."""

    window: int | None = None
    """Tokens after which a document is cut; None: the model's maximum."""
    add_special_tokens: bool = True
    """As in ``Tokenizer.encode``."""
    positions_in_a_batch: int = POSITIONS_IN_A_BATCH
    """Padded positions of one forward pass."""
    on_progress: OnProgress | None = None
    """Called after every pass."""
    should_stop: ShouldStop | None = None
    """Called before every pass; True ends the run with ``RunStoppedError``."""
