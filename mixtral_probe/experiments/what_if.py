"""What-if: the same text without edits, with them, and with a placebo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.experiments.matched_placebo import Damage, RecordedRouting, matched_placebos
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits import Edit
from mixtral_probe.instruments.edits.edit import PlacedEdit
from mixtral_probe.instruments.recorder import widened
from mixtral_probe.model import ForwardContext, Instrument, Routing, Site
from mixtral_probe.run import Passes, Plan, RunOptions, Subject, new_text
from mixtral_probe.run.batch import NO_EXTRA_OUTPUTS, Batch
from mixtral_probe.run.edit_binding import bind_edits
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.trace.results import CANDIDATES, RUNS, WhatIf

WHAT_IF_POSITIONS = 2048
"""Padded positions in a batch, of which two runs are in memory at once."""
_LOGITS_AT_ONCE = 128
Runs = Mapping[int, Sequence[Edit | Damage]]
"""What is run side by side: by its place in `RUNS`, its edits."""


def what_if(
    subject: Subject,
    planned: Plan,
    options: RunOptions,
    edits: Sequence[Edit],
    *,
    placebo: bool = True,
    seed: int = 0,
    generate: int | None = None,
) -> WhatIf:
    """Run documents without edits, with them, and with a placebo of the same size; see ``Probe.what_if``."""
    _check(edits, subject)
    run = _Run(subject, planned, options, tuple(edits), placebo, seed)
    run.all()
    meta = experiment_meta(subject, planned)
    meta |= {"edits": [edit.settings() for edit in edits], "sentences": [str(edit) for edit in edits]}
    meta |= {"placebo": [str(one) for one in run.placebos], "seed": seed}
    if generate is not None:
        meta["generated"] = _generated(subject, planned, options, edits, generate)
    return run.result(meta)


class _RoutingRecorder(Instrument):
    """Keeps the routing of every layer of a call."""

    sites = (Site.ROUTING,)

    def __init__(self) -> None:
        self.routing: list[Routing] = []

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        self.routing.append(value)
        return value


@dataclass
class _Run:
    """The measurements of all runs, in the rows of the plan."""

    subject: Subject
    planned: Plan
    options: RunOptions
    edits: tuple[Edit, ...]
    placebo: bool
    seed: int

    def __post_init__(self) -> None:
        config, tokens = self.subject.config, len(self.planned.token_ids)
        top_k = config.num_experts_per_tok
        self.top_k = max([top_k, *(edit.most_experts(top_k) for edit in self.edits)])
        shape = (len(RUNS), config.num_hidden_layers, tokens, self.top_k)
        self.expert_ids, self.weights = np.full(shape, -1, np.int16), np.zeros(shape, np.float32)
        self.nll, self.bits = (np.full((len(RUNS), tokens), np.nan, np.float32) for _ in range(2))
        self.predicted = np.full((len(RUNS), tokens), -1, np.int32)
        documents = len(self.planned.documents)
        self.candidates = np.full((documents, CANDIDATES), -1, np.int32)
        self.probability = np.full((len(RUNS), documents, CANDIDATES), np.nan, np.float32)
        self.rank = np.full((len(RUNS), documents, CANDIDATES), -1, np.int32)
        self.placebos: tuple[Edit | Damage, ...] = ()
        self.meant = np.zeros((len(self.edits), tokens), bool)

    def all(self) -> None:
        """First without and with the edits, over all documents, since the placebo matches what the edits touch."""
        passes = Passes.of(self.planned, self.options, times=2 if self.placebo else 1)
        self._over(passes, {0: (), 1: self.edits})
        self.placebos = self._matched() if self.placebo else ()
        if self.placebos:
            self._over(passes, {0: (), 2: self.placebos})

    def _over(self, passes: Passes, runs: Runs) -> None:
        passes.over(self.planned, self.subject.device, lambda batch: self._batch(batch, runs))

    def _matched(self) -> tuple[Edit | Damage, ...]:
        before, after = (RecordedRouting(self.expert_ids[run], self.weights[run]) for run in (0, 1))
        return matched_placebos(self.edits, self.subject.config, self.meant, before, after, self.seed)

    def _instruments(self, edits: Sequence[Edit | Damage], batch: Batch) -> tuple[Instrument, ...]:
        instruments: list[Instrument] = []
        for edit in edits:
            instruments += edit.instruments(batch) if isinstance(edit, Damage) else [edit]
        return bind_edits(instruments, self.planned.documents, batch.windows)

    def _batch(self, batch: Batch, runs: Runs) -> None:
        hidden, calls = [], []
        for run, edits in runs.items():
            instruments, kept = self._instruments(edits, batch), _RoutingRecorder()
            out = self.subject.model.model(batch.ids, instruments=(*instruments, kept), **NO_EXTRA_OUTPUTS)
            self._keep_routing(run, batch, kept.routing)
            if run == 1:
                self._keep_meant(instruments, batch, out.context)
            hidden.append(out.last_hidden_state)
            calls.append((out.context, instruments))
        for start in range(0, batch.ids.shape[1], _LOGITS_AT_ONCE):
            part = slice(start, start + _LOGITS_AT_ONCE)
            logits = [
                self.subject.model.head(h[:, part], context, instruments).float()
                for h, (context, instruments) in zip(hidden, calls, strict=True)
            ]
            for run, of_run in zip(runs, logits, strict=True):
                self._score(run, batch, part, logits[0], of_run)
            self._candidates(list(runs), batch, part, logits)

    def _keep_routing(self, run: int, batch: Batch, seen: Sequence[Routing]) -> None:
        for layer, routing in enumerate(seen):
            whole = widened(routing, self.top_k)
            self.expert_ids[run, layer, batch.rows] = whole.expert_ids[batch.flat].cpu().numpy()
            self.weights[run, layer, batch.rows] = whole.weights[batch.flat].float().cpu().numpy()

    def _keep_meant(self, instruments: Sequence[Instrument], batch: Batch, context: ForwardContext) -> None:
        for number, edit in enumerate(instruments):
            assert isinstance(edit, PlacedEdit)
            self.meant[number, batch.rows] = edit.meant(context).cpu().numpy()[batch.flat.numpy()]

    def _score(self, run: int, batch: Batch, part: slice, base: Tensor, logits: Tensor) -> None:
        """Loss, best next token and divergence from the run without edits, at the positions of a part."""
        log_p, log_q = base.log_softmax(-1), logits.log_softmax(-1)
        bits = (log_p.exp() * (log_p - log_q)).nan_to_num(0).sum(-1).clamp(min=0) / np.log(2)
        targets = batch.ids[:, part.start + 1 : part.start + logits.shape[1] + 1]
        nll = -log_q[:, : targets.shape[1]].gather(2, targets[..., None])[..., 0]
        for row, window in enumerate(batch.windows):
            here = min(logits.shape[1], window.length - part.start)
            if here <= 0:
                continue
            first = window.start + part.start
            self.bits[run, first : first + here] = bits[row, :here].cpu().numpy()
            self.predicted[run, first : first + here] = logits[row, :here].argmax(-1).cpu().numpy()
            last = min(first + here + 1, window.start + window.length)
            self.nll[run, first + 1 : last] = nll[row, : last - first - 1].cpu().numpy()

    def _candidates(self, runs: Sequence[int], batch: Batch, part: slice, logits: Sequence[Tensor]) -> None:
        """After the last token of each document: the best tokens of either side, their probabilities and ranks."""
        for row, window in enumerate(batch.windows):
            place = window.length - 1 - part.start
            if not 0 <= place < logits[0].shape[1] or not self._ends(window):
                continue
            chosen = [side[row, place] for side in logits]
            if 1 in runs:
                best = torch.cat([side.topk(min(20, len(side))).indices for side in chosen]).tolist()
                unique = list(dict.fromkeys(best))
                self.candidates[window.document, : len(unique)] = unique
            ids = self.candidates[window.document]
            ids = torch.from_numpy(ids[ids >= 0].astype(np.int64))
            for run, side in zip(runs, chosen, strict=True):
                side = side.cpu()
                self.probability[run, window.document, : len(ids)] = side.softmax(-1)[ids].numpy()
                self.rank[run, window.document, : len(ids)] = (side[None] > side[ids, None]).sum(1).numpy()

    def _ends(self, window: Window) -> bool:
        tokens, after = self.planned.tokens["document"].to_numpy(), window.start + window.length
        return after == len(tokens) or tokens[after] != window.document

    def result(self, meta: dict[str, Any]) -> WhatIf:
        """The arrays of all runs."""
        ran = 3 if self.placebos else 2
        tokens, ids = self.planned.tokens, np.where(self.candidates < 0, 0, self.candidates)
        by_run: tuple[np.ndarray, ...] = (
            self.expert_ids, self.weights, self.nll, self.bits, self.predicted, self.probability, self.rank,
        )  # fmt: skip
        names = ("expert_ids", "expert_weights", "nll", "bits", "predicted_id", "probability", "rank")
        arrays: dict[str, Any] = {name: values[:ran] for name, values in zip(names, by_run, strict=True)}
        for name in ("document", "chunk", "position", "token_id", "special"):
            arrays[f"token_{name}" if name == "document" else name] = tokens[name].to_numpy()
        arrays["candidate_id"] = self.candidates
        meta["candidates"] = [self.subject.tokenizer.pieces(row) for row in ids]
        meta["experts"] = self.subject.config.num_local_experts
        labels = {"run": RUNS[:ran], "token": tuple(map(str, tokens["piece"])),
                  "document": tuple(map(str, self.planned.documents["id"]))}  # fmt: skip
        return WhatIf.of(arrays, labels, meta)


def _check(edits: Sequence[Edit], subject: Subject) -> None:
    if not edits:
        raise InputError("a what-if needs at least one edit, got none; see mixtral_probe.edits")
    for edit in edits:
        if not isinstance(edit, Edit):
            raise InputError(f"edits come from mixtral_probe.edits, got {edit!r}; wrap a function in edits.Function")
        edit.check(subject.config)


def _generated(
    subject: Subject, planned: Plan, options: RunOptions, edits: Sequence[Edit], count: int
) -> dict[str, list[str]]:
    """The new text after each document, without and with the edits."""
    texts: dict[str, list[str]] = {RUNS[0]: [], RUNS[1]: []}
    passes = Passes(replace(options, on_progress=None))
    for number in range(len(planned.documents)):
        ids = planned.token_ids[planned.tokens["document"].to_numpy() == number].tolist()
        for name, chosen in ((RUNS[0], ()), (RUNS[1], tuple(edits))):
            instruments = bind_edits(chosen, planned.documents, [Window(number, 0, 0, len(ids))])
            with passes.step():
                texts[name].append(_continuation(subject, ids, count, instruments))
    return texts


def _continuation(subject: Subject, ids: list[int], count: int, instruments: Sequence[Instrument]) -> str:
    prompt = torch.tensor([ids], device=subject.device)
    sequences = subject.model.generate(prompt, count, torch.ones_like(prompt), instruments=instruments)
    assert isinstance(sequences, Tensor)
    return new_text(subject.tokenizer, ids, sequences[0, len(ids) :].tolist())
