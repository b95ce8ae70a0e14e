"""What-if: the same text without edits, with them, and with draws of a placebo."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.experiments.compared_scores import Run, compared_scores
from mixtral_probe.experiments.continuations import Continuations, continuations
from mixtral_probe.experiments.matched_placebo import Placebo, RecordedRouting, matched_placebo
from mixtral_probe.experiments.placebo_draws import PlaceboDraws
from mixtral_probe.experiments.run_arrays import RoutingRecorder, RunArrays, document_ends
from mixtral_probe.instruments.edits import Edit
from mixtral_probe.instruments.edits.edit import PlacedEdit
from mixtral_probe.model import ForwardContext, Instrument
from mixtral_probe.model.grouped_experts import eager_experts
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.edit_binding import bind_edits
from mixtral_probe.run.forward import forward
from mixtral_probe.run.passes import model_batches
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.trace.results import CANDIDATES, RUNS, WhatIf

WHAT_IF_POSITIONS = 2048
"""Padded positions in a batch, of which two runs are in memory at once, or as many draws as fit."""
WHAT_IF_PLACEBOS = 39
"""Draws of the placebo, whose range holds an exchangeable one in 95 % of cases."""


def what_if(
    subject: Subject,
    planned: Plan,
    options: RunOptions,
    edits: Sequence[Edit],
    *,
    placebos: int = WHAT_IF_PLACEBOS,
    seed: int = 0,
    generate: int | None = None,
) -> WhatIf:
    """Run documents without edits, with them, and with draws of a placebo of the same size; see ``Probe.what_if``."""
    _check(edits, subject)
    require_placebos(placebos)
    with eager_experts(subject.model.separates_experts(edits)):
        return _what_if(subject, planned, options, edits, placebos, seed, generate)


def _what_if(
    subject: Subject, planned: Plan, options: RunOptions, edits: Sequence[Edit], placebos: int, seed: int,
    generate: int | None,
) -> WhatIf:  # fmt: skip
    tokens, documents = len(planned.token_ids), len(planned.documents)
    passes = Passes(options, documents=documents * (1 + (placebos > 0)), tokens=tokens * what_if_runs(placebos))
    sides = _TwoRuns(subject, planned, tuple(edits))
    for batch in model_batches(planned, subject.device, options):
        with passes.step(2 * len(batch.rows), len(batch.completes)):
            sides.run(batch)
    placebo = sides.placebo(seed)
    drawn = _draw(subject, planned, options, sides, placebo, placebos, passes)
    meta = experiment_meta(subject, planned)
    meta |= {"edits": [edit.settings() for edit in edits], "sentences": [str(edit) for edit in edits]}
    meta |= {"placebo": placebo.sentences if drawn else [], "arrangements": placebo.arrangements, "seed": seed}
    new: Continuations | None = None
    if generate is not None:
        number = drawn.number if drawn else 0
        new = continuations(subject, planned, options, edits, generate, number, seed)
        meta |= {"generated": new.texts, "generated_placebo": new.placebo}
    return _result(subject, planned, sides, drawn, new, meta)


def what_if_runs(placebos: int) -> int:
    """Runs over every token: without and with the edits, and without them once more if draws of a placebo follow."""
    return 2 + (1 + placebos if placebos else 0)


def what_if_passes(subject: Subject, edits: Sequence[Edit], placebos: int) -> float:
    """How many forward passes a what-if takes at most, where draws begin at the first layer that is edited."""
    layers = subject.config.num_hidden_layers
    first = min((min(edit.layers_named, default=0) for edit in edits), default=0)
    return what_if_runs(placebos) - placebos * first / layers


def require_placebos(placebos: int) -> None:
    """Raise InputError for a number of draws that is none."""
    if not isinstance(placebos, int) or isinstance(placebos, bool) or placebos < 0:
        raise InputError(f"placebos must be a number of draws, 0 for none, got {placebos!r}; give 0 or more")


class _TwoRuns:
    """The runs without and with the edits."""

    def __init__(self, subject: Subject, planned: Plan, edits: tuple[Edit, ...]) -> None:
        self.subject, self.planned, self.edits = subject, planned, edits
        config, tokens, documents = subject.config, len(planned.token_ids), len(planned.documents)
        top_k = config.num_experts_per_tok
        top_k = max([top_k, *(edit.most_experts(top_k) for edit in edits)])
        self.base, self.edited = (
            RunArrays.empty(config.num_hidden_layers, tokens, top_k, documents) for _ in range(2)
        )  # fmt: skip
        self.candidates = np.full((documents, CANDIDATES), -1, np.int32)
        self.meant = np.zeros((len(edits), tokens), bool)

    def run(self, batch: Batch) -> None:
        """Run one batch without and with the edits."""
        edits = bind_edits(self.edits, self.planned.documents, batch.windows)
        runs = []
        for arrays, instruments in ((self.base, ()), (self.edited, edits)):
            recorder = RoutingRecorder()
            out = forward(self.subject.model, batch, [*instruments, recorder], edited=bool(instruments))
            arrays.keep_routing(batch, recorder.routing)
            runs.append(Run(out.last_hidden_state, out.context, instruments))
        self._keep_meant(edits, batch, runs[1].context)
        scores = compared_scores(self.subject.model, batch, runs[0], runs[1:])
        for arrays, score in zip((self.base, self.edited), scores, strict=True):
            arrays.keep_scores(batch, score)
        for row, document in document_ends(self.planned, batch):
            self._keep_candidates(document, [score.last[row] for score in scores])

    def _keep_meant(self, instruments: Sequence[Instrument], batch: Batch, context: ForwardContext) -> None:
        for number, edit in enumerate(instruments):
            assert isinstance(edit, PlacedEdit)
            self.meant[number, batch.rows] = edit.meant(context).cpu().numpy()[batch.flat.numpy()]

    def _keep_candidates(self, document: int, last: Sequence[Tensor]) -> None:
        """The best tokens of either run after a document, their probabilities and ranks; last: logits [V] of each."""
        best = torch.cat([logits.topk(min(CANDIDATES // 2, len(logits))).indices for logits in last]).tolist()
        unique = list(dict.fromkeys(best))
        self.candidates[document, : len(unique)] = unique
        for arrays, logits in zip((self.base, self.edited), last, strict=True):
            arrays.keep_candidates(document, logits, self.candidates[document])

    def placebo(self, seed: int) -> Placebo:
        """The placebo of the edits."""
        before, after = (RecordedRouting(run.expert_ids, run.expert_weights) for run in (self.base, self.edited))
        return matched_placebo(self.edits, self.subject.config, self.planned, self.meant, before, after, seed)


def _draw(
    subject: Subject, planned: Plan, options: RunOptions, sides: _TwoRuns, placebo: Placebo, most: int, passes: Passes
) -> PlaceboDraws | None:
    """Run the draws of the placebo: at most as many as it can turn out in different ways; None without any."""
    number = min(most, placebo.arrangements) if placebo.parts else 0
    drawn = PlaceboDraws(subject, planned, options, sides.base, sides.candidates, placebo, number) if number else None
    windows = drawn.windows if drawn else ()
    needed = sum(window.length for window in windows) * (1 + number)
    unchanged = {w.document for w in planned.windows} - {w.document for w in windows} if most else set()
    passes.skip(len(planned.token_ids) * (what_if_runs(most) - 2) - needed, len(unchanged))
    if drawn:
        drawn.run(passes)
    return drawn


def _result(
    subject: Subject, planned: Plan, sides: _TwoRuns, drawn: PlaceboDraws | None, new: Continuations | None,
    meta: dict[str, Any],
) -> WhatIf:  # fmt: skip
    """The arrays of all runs."""
    runs = [sides.base, sides.edited, *([drawn.first] if drawn else [])]
    arrays = {part.name: np.stack([getattr(run, part.name) for run in runs]) for part in fields(RunArrays)}
    for name in ("document", "chunk", "position", "token_id", "special"):
        arrays[f"token_{name}" if name == "document" else name] = planned.tokens[name].to_numpy()
    arrays["candidate_id"] = sides.candidates
    if drawn:
        arrays |= {f"draw_{part.name}": getattr(drawn.sums, part.name) for part in fields(drawn.sums)}
        arrays["draw_probability"] = drawn.probability
        arrays |= {f"token_draw_{name}": values for name, values in drawn.band.arrays().items()}
    arrays |= new.arrays() if new else {}
    ids = np.where(sides.candidates < 0, 0, sides.candidates)
    meta["candidates"] = [subject.tokenizer.pieces(row, chosen=True) for row in ids]
    meta["experts"] = subject.config.num_local_experts
    labels = {"run": RUNS[: len(runs)], "token": tuple(map(str, planned.tokens["piece"])),
              "document": tuple(map(str, planned.documents["id"]))}  # fmt: skip
    return WhatIf.of(arrays, labels, meta)


def _check(edits: Sequence[Edit], subject: Subject) -> None:
    if not edits:
        raise InputError("a what-if needs at least one edit, got none; see mixtral_probe.edits")
    for edit in edits:
        if not isinstance(edit, Edit):
            raise InputError(f"edits come from mixtral_probe.edits, got {edit!r}; wrap a function in edits.Function")
        edit.check(subject.config)
