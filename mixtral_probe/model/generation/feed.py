"""The model as generation sees it: tokens go in, the logits of what follows come out, a cache remembers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.model.sites import Instrument

COLLECTED = ("router_logits", "attentions", "hidden_states")


class Feed:
    """Keeps positions, padding and cache right from call to call.

    Args:
        model: a ``MixtralForCausalLM``.
        prompt: whose cache and padding are used; its ids are the first to be fed.
        instruments: attached to every call.
        collect: of ``COLLECTED``, what is kept of every call.
    """

    def __init__(
        self, model: Any, prompt: Prompt, instruments: Sequence[Instrument] = (), collect: Sequence[str] = ()
    ) -> None:
        self.model, self.cache, self.instruments = model, prompt.cache, tuple(instruments)
        self.collected: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in collect}
        self._prompt, self._mask = prompt, prompt.mask

    def prefill(self) -> Tensor:
        """Feed the prompt: [B, V] float32, the logits after its last position."""
        return self._forward(self._prompt.fresh)

    def step(self, tokens: Tensor, alive: Tensor | None = None) -> Tensor:
        """Feed one token of each row, [N] → [N, V] float32; rows that are not ``alive`` count as padding."""
        if alive is not None and bool(alive.all()):
            alive = None
        if self._mask is None and alive is not None:
            self._mask = torch.ones(len(tokens), len(self.cache), dtype=torch.bool, device=tokens.device)
        if self._mask is not None:
            new = torch.ones_like(tokens, dtype=torch.bool) if alive is None else alive
            self._mask = torch.cat((self._mask, new[:, None]), dim=1)
        return self._forward(tokens[:, None])

    def reorder(self, rows: Tensor) -> None:
        """Go on with these rows [N] of what was fed so far, any of them repeated or left out."""
        self.cache.reorder(rows)
        if self._mask is not None:
            self._mask = self._mask[rows]

    def logits(self, out: ModelOutput, ids: Tensor) -> Tensor:
        """[N, V]: what follows the last of the ids [N, n] that gave ``out``."""
        return self.model.head(out.last_hidden_state[:, -1:], out.context, self.instruments)[:, -1]

    def _forward(self, ids: Tensor) -> Tensor:
        out = self.model.model(
            ids,
            attention_mask=self._mask,
            position_ids=None if self._mask is None else _positions(self._mask)[:, -ids.shape[1] :],
            past_key_values=self.cache,
            instruments=self.instruments,
            return_dict=True,
            **{f"output_{name}": name in self.collected for name in COLLECTED},
        )
        for name, calls in self.collected.items():
            calls.append(getattr(out, name))
        return self.logits(out, ids).to(ids.device, torch.float32)


def _positions(mask: Tensor) -> Tensor:
    """[B, M] bool → positions counted from each row's first token; 0 on padding."""
    return (mask.cumsum(1) - 1).masked_fill(~mask, 0)
