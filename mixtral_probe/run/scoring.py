"""The loss of each token, and the most probable next one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixtral_probe.model import ForwardContext, Instrument, MixtralForCausalLM

POSITIONS_AT_ONCE = 256
"""Rows of logits in memory at a time: all of a long text times the vocabulary would outgrow the model."""


def next_token_scores(
    model: MixtralForCausalLM,
    hidden: Tensor,
    ids: Tensor,
    context: ForwardContext,
    instruments: Sequence[Instrument] = (),
) -> tuple[Tensor, Tensor]:
    """Compute loss and prediction at every position.

    Args:
        hidden: [B, S, C], after the final norm; or the first S − 1 positions of it.
        ids: [B, S].

    Returns:
        nll [B, S] float32, nats: of each token after those before it, NaN at position 0; predicted_id int64: the most
        probable next token at each position of ``hidden``.
    """
    batch, length = hidden.shape[:2]
    nll = torch.full(ids.shape, torch.nan, device=hidden.device)
    predicted = torch.empty((batch, length), dtype=torch.int64, device=hidden.device)
    step = max(1, POSITIONS_AT_ONCE // batch)
    for start in range(0, length, step):
        logits = model.head(hidden[:, start : start + step], context, instruments)
        predicted[:, start : start + step] = logits.argmax(-1)
        targets = ids[:, start + 1 : start + logits.shape[1] + 1]
        scored = logits[:, : targets.shape[1]].float()
        chosen = scored.gather(2, targets[..., None])[..., 0]
        nll[:, start + 1 : start + 1 + targets.shape[1]] = scored.logsumexp(-1) - chosen
    return nll, predicted
