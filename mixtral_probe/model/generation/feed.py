"""Forward calls of generation: new tokens in, logits of the next token out, with a cache between calls."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.model.sites import Instrument

COLLECTED = ("router_logits", "attentions", "hidden_states")


class Feed:
    """Runs the calls of a generation, with positions, padding and cache.

    Args:
        model: a ``MixtralForCausalLM``.
        prompt: has the cache and the padding; its ids are the first input.
        instruments: attached to every call.
        collect: the outputs in ``COLLECTED`` to keep from every call.
    """

    def __init__(
        self, model: Any, prompt: Prompt, instruments: Sequence[Instrument] = (), collect: Sequence[str] = ()
    ) -> None:
        self.model, self.cache, self.instruments = model, prompt.cache, tuple(instruments)
        self.collected: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in collect}
        self._prompt, self._mask = prompt, prompt.mask

    def prefill(self, repeats: int = 1) -> Tensor:
        """Run the prompt: [B · repeats, V] float32, the logits after its last position, repeated for each row."""
        logits = self._forward(*self._prompt.uncached)
        if repeats == 1:
            return logits
        rows = torch.arange(len(logits), device=logits.device).repeat_interleave(repeats)
        self.reorder(rows)
        for name, calls in self.collected.items():
            calls[-1] = tuple(_repeated(value, rows, name) for value in calls[-1])
        return logits[rows]

    def step(self, tokens: Tensor, running: Tensor | None = None) -> Tensor:
        """Run one token of each row, [N] → [N, V] float32; rows that are not ``running`` are padding."""
        if running is not None and bool(running.all()):
            running = None
        if self._mask is None and running is not None:
            self._mask = torch.ones(len(tokens), len(self.cache), dtype=torch.bool, device=tokens.device)
        if self._mask is not None:
            new = torch.ones_like(tokens, dtype=torch.bool) if running is None else running
            self._mask = torch.cat((self._mask, new[:, None]), dim=1)
        return self._forward(tokens[:, None])

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows [N] of the input so far, any of them repeated or left out."""
        self.cache.reorder(rows)
        if self._mask is not None:
            self._mask = self._mask[rows]

    def logits(self, out: ModelOutput, ids: Tensor | None) -> Tensor:
        """[N, V]: logits after the last position of a call with output ``out``; its ids are [N, n], if it had any."""
        return self.model.head(out.last_hidden_state[:, -1:], out.context, self.instruments)[:, -1]

    def _forward(self, ids: Tensor | None, embeddings: Tensor | None = None) -> Tensor:
        out = self.model.model(
            ids,
            inputs_embeds=embeddings,
            attention_mask=self._mask,
            position_ids=None if self._mask is None else _positions(self._mask)[:, len(self.cache) :],
            past_key_values=self.cache,
            instruments=self.instruments,
            return_dict=True,
            **{f"output_{name}": name in self.collected for name in COLLECTED},
        )
        for name, calls in self.collected.items():
            calls.append(getattr(out, name))
        return self.logits(out, ids).to(self._prompt.ids.device, torch.float32)


def _repeated(value: Tensor, rows: Tensor, name: str) -> Tensor:
    """What was collected of a call, for each row of the calls after it."""
    if name != "router_logits":
        return value[rows]
    batch = int(rows[-1]) + 1
    return value.view(batch, -1, value.shape[-1])[rows].flatten(0, 1)


def _positions(mask: Tensor) -> Tensor:
    """[B, M] bool → positions counted from each row's first token; 0 on padding."""
    return (mask.cumsum(1) - 1).masked_fill(~mask, 0)
