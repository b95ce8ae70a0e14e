"""The runs of a what-if as sums by document, and as arrays with a row for each."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats.run_sums import RunSums, RunTokens
from mixtral_probe.trace import WhatIf

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WhatIfSums:
    """Every run of a what-if as sums by document."""

    base: RunSums
    edited: RunSums
    draws: RunSums
    """[draws, ...] those of the placebo, of which there may be none."""
    tokens: NDArray[np.int64]
    """[documents] counted tokens, special ones out."""
    scored: NDArray[np.int64]
    """[documents] those of them with a loss."""

    @classmethod
    def of(cls, result: WhatIf) -> "WhatIfSums":
        """Sum the tokens of the runs; draws come summed, but for the only one of a file of an earlier version."""
        number = len(result.axis("document"))
        document = np.where(result.special, number, result.token_document).astype(np.intp)
        runs = [_tokens(result, run) for run in range(len(result.axis("run")))]
        base, edited, *first = (RunSums.of(runs[0], run, document, number, result.num_experts) for run in runs)
        scored = np.where(np.isnan(result.nll[0]), number, document)
        tokens, with_loss = (np.bincount(some, minlength=number + 1)[:-1] for some in (document, scored))
        return cls(base, edited, _draws(result, first[0] if first else base), tokens, with_loss)


def _draws(result: WhatIf, first: RunSums) -> RunSums:
    if "draw_nll" in result.arrays:
        return RunSums(*(np.asarray(result[f"draw_{part.name}"]) for part in fields(RunSums)))
    return RunSums.repeated(first, result.draws)


def _tokens(result: WhatIf, run: int) -> RunTokens:
    nll, bits = (np.asarray(values[run], np.float64) for values in (result.nll, result.bits))
    return RunTokens(nll, bits, result.predicted_id[run], result.expert_ids[run])


def kept_tokens(result: WhatIf) -> tuple[tuple[Floats, Floats] | None, NDArray[np.int64]]:
    """Return how many tokens of continuations are kept, by document with the edits and with each draw, and of how many.

    None where texts were not continued, or by an earlier version, which did not count.
    """
    if "continuation_kept" not in result.arrays:
        return None, np.zeros(0, np.int64)
    edited = np.asarray(result.continuation_kept, np.float64)
    draws = result.draw_continuation_kept if result.draws else np.empty((0, len(edited)))
    return (edited, np.asarray(draws, np.float64)), np.asarray(result.continuation_tokens, np.int64)


def placebo_tokens(result: WhatIf) -> tuple[Floats, Floats, Floats]:
    """[T] mean, least and greatest change of each token's loss over the draws; NaN without, ends with fewer than 2."""
    missing = np.full(len(result.axis("token")), np.nan)
    base = np.asarray(result.nll[0], np.float64)
    if "token_draw_mean" not in result.arrays:
        return (result.nll[2] - base if result.draws else missing), missing, missing
    mean, low, high = (
        np.where(np.isnan(base), np.nan, values)
        for values in (result.token_draw_mean, result.token_draw_low, result.token_draw_high)
    )
    return (mean, low, high) if result.draws > 1 else (mean, missing, missing)


def placebo_probabilities(result: WhatIf) -> Floats:
    """[draws, documents, candidates] of next tokens with the placebo."""
    if "draw_probability" in result.arrays:
        return np.asarray(result.draw_probability, np.float64)
    return np.asarray(result.probability[2 : 2 + result.draws], np.float64)
