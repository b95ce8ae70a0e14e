"""The placebo of a what-if: as much change, in the same layers, of nothing in particular."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mixtral_probe.config import MixtralConfig
from mixtral_probe.instruments.edits import Edit, MeanExpert, RandomRouting, ZeroExpert
from mixtral_probe.instruments.edits.edit import HeadEdit
from mixtral_probe.model import Site

Choices = np.ndarray
"""[L, T, K]"""
_ROUTER = (Site.ROUTER_LOGITS, Site.ROUTING, Site.EXPERT_OUTPUT)


def placebo_edits(
    edits: Sequence[Edit], config: MixtralConfig, before: tuple[Choices, Choices], after: tuple[Choices, Choices],
    seed: int,
) -> tuple[Edit, ...]:  # fmt: skip
    """What is done beside edits, to tell what they do from what any change as large does.

    For an edit of the router or of experts, as many tokens as it touches exchange their experts and weights at random,
    so that loads are kept. For an edit of heads, the same is done to as many other heads. For a function of the user's
    that works elsewhere there is none.

    Args:
        before, after: expert ids and weights of the run without and with the edits.
        seed: of what is drawn.
    """
    made = [_placebo(edit, config, before, after, seed + number) for number, edit in enumerate(edits)]
    return tuple(placebo for placebo in made if placebo is not None)


def _placebo(
    edit: Edit, config: MixtralConfig, before: tuple[Choices, Choices], after: tuple[Choices, Choices], seed: int
) -> Edit | None:
    if isinstance(edit, HeadEdit):
        others = [head for head in range(config.num_attention_heads) if head not in edit.head]
        order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed)).tolist()
        chosen = [others[place] for place in order[: len(edit.head)]]
        return edit.model_copy(update={"head": tuple(sorted(chosen))}) if chosen else None
    if not set(edit.sites_used) & set(_ROUTER):
        return None
    where: dict[str, Any] = {name: getattr(edit, name) for name in ("layer", "position", "token_id", "document")}
    return RandomRouting(**where, phase=edit.phase, share=_touched(edit, before, after), seed=seed)


def _touched(edit: Edit, before: tuple[Choices, Choices], after: tuple[Choices, Choices]) -> float:
    """The share of all tokens, in the edit's layers, that it changes the experts or the weights of."""
    layers = list(range(len(before[0]))) if edit.layer == "all" else list(edit.layer)
    if isinstance(edit, (ZeroExpert, MeanExpert)):
        return round(float(np.isin(before[0][layers], edit.expert).any(-1).mean()), 4)
    size = min(before[0].shape[-1], after[0].shape[-1])
    other = (np.sort(before[0][layers][..., :size]) != np.sort(after[0][layers][..., :size])).any(-1)
    if not other.any() or before[0].shape != after[0].shape:
        other = np.abs(before[1][layers][..., :size] - after[1][layers][..., :size]).max(-1) > 1e-6
    return round(float(other.mean()), 4)
