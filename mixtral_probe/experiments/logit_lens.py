"""Logit lens: the final norm and the unembedding applied to every layer's residual stream."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.experiments.lens_scores import Reference
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.forward import forward
from mixtral_probe.run.scoring import POSITIONS_AT_ONCE
from mixtral_probe.trace import LogitLensResult


def logit_lens(subject: Subject, planned: Plan, options: RunOptions, *, top: int = 5) -> LogitLensResult:
    """Read every layer's residual stream as a prediction (logit lens: nostalgebraist 2020); see ``Probe.logit_lens``.

    `logits_l = lm_head(norm(h_l))`, h_l the output of layer l; the last layer's are the model's own. Windows run one
    by one, since the logits of all layers are large.

    Raises:
        InputError: `top` is no count of tokens.
    """
    config, tokens = subject.config, planned.tokens
    if not 1 <= top <= config.vocab_size:
        raise InputError(f"top must lie in 1–{config.vocab_size}, the vocabulary, got {top}")
    parts: dict[int, dict[str, np.ndarray]] = {}

    def read(batch: Batch) -> None:
        parts[batch.windows[0].start] = _of_window(subject.model, batch, top)

    options = replace(options, positions_in_a_batch=1)
    Passes.of(planned, options).over(planned, subject.device, read)
    by_row = [parts[start] for start in sorted(parts)]
    arrays = {name: np.concatenate([part[name] for part in by_row], axis=1) for name in by_row[0]}
    places = {name: tokens[name].to_numpy() for name in ("document", "chunk", "position", "special")}
    ids = np.unique(arrays["predicted_id"])
    meta = {
        "documents": [str(name) for name in planned.documents["id"]],
        "vocab_size": config.vocab_size,
        "pieces": dict(zip(map(str, ids.tolist()), subject.tokenizer.pieces(ids, chosen=True), strict=True)),
    }
    labels = {"token": tuple(str(piece) for piece in tokens["piece"])}
    return LogitLensResult.of(places | arrays, labels, meta)


def _of_window(model: MixtralForCausalLM, batch: Batch, top: int) -> dict[str, np.ndarray]:
    """The arrays [L, S, …] of a batch of one window."""
    out = forward(model, batch, output_hidden_states=True)
    assert out.hidden_states is not None
    assert out.last_layer_output is not None
    residuals: list[Any] = [*out.hidden_states[1:-1], out.last_layer_output]  # L of [1, S, C]
    tokens = batch.ids[0]
    parts = []
    for start in range(0, len(tokens), POSITIONS_AT_ONCE):
        rows = slice(start, start + POSITIONS_AT_ONCE)
        parts.append(of_rows(model, [hidden[:, rows] for hidden in residuals], tokens[start + 1 :], top))
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def of_rows(model: MixtralForCausalLM, residuals: list[Tensor], following: Tensor, top: int) -> dict[str, np.ndarray]:
    """The arrays [L, n, …] of some rows of the residual streams, L of [1, n, C], and the tokens after each."""
    final = Reference.of(_read(model, residuals[-1]))
    following = following[: len(final.logits)].to(final.logits.device)
    layers = [final.scores(_read(model, hidden), following, top) for hidden in residuals[:-1]]
    layers.append(final.scores(final.logits, following, top))
    return {name: torch.stack([layer[name] for layer in layers]).cpu().numpy() for name in layers[0]}


def _read(model: MixtralForCausalLM, hidden: Tensor) -> Tensor:
    """[n, V] float32 logits of residual streams [1, n, C]."""
    norm, head = model.model.norm, model.lm_head
    normed = norm(hidden.to(norm.weight.device))
    return head(normed.to(head.weight.device))[0].float()
