"""What is lost without an expert: every one of them taken away, one at a time, and the loss measured again.

Each run begins with the stored hidden state before the layer it changes, since the layers below do as they did.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from mixtral_probe.corpus import Document
from mixtral_probe.errors import InputError
from mixtral_probe.experiments.restart import Restart, mean_outputs
from mixtral_probe.experiments.result_parts import ResultParts
from mixtral_probe.instruments.edits import MaskExpert, MeanExpert, ZeroExpert
from mixtral_probe.instruments.placebo import DamageAssignments, Semantics, matched_assignments
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.run.allocator import keep_freed_memory
from mixtral_probe.run.batch import Batch, counted_documents
from mixtral_probe.run.plan import Plan, batches, plan
from mixtral_probe.run.progress import CaptureStoppedError, OnProgress, ShouldStop, Tracker
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Result

ABLATION_POSITIONS = 2048
"""Padded positions in a batch: its hidden states before every layer are kept while it runs."""


def ablation(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    semantics: Semantics = "mask",
    layers: Sequence[int] | None = None,
    experts: Sequence[int] | None = None,
    placebo: bool = True,
    seed: int = 0,
    path: str | PathLike[str] | None = None,
    window: int | None = None,
    model_name: str = "",
    corpus_name: str = "",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    positions_in_a_batch: int = ABLATION_POSITIONS,
) -> Result:
    """Take away every expert, one at a time, and measure the loss of every document.

    Args:
        semantics: "mask": it cannot be chosen, the next best takes over, weights sum to 1. "zero": its output is 0,
            weights are kept. "zero_renorm": its output is 0, the other weights of the token are made to sum to 1.
            "mean": its output is its mean over these documents.
        layers, experts: only these; None for all.
        placebo: beside each ablation, do the same to as many assignments of tokens to experts drawn at random, rank by
            rank and document by document.
        seed: of the placebo.
        path: a folder to write the result to; an interrupted run with the same arguments continues.
        on_progress: is told of tokens once for every run over them.

    Returns:
        a `Result` of the kind "ablation", for `tables.ablation`.

    Raises:
        InputError: the input breaks a rule.
        CaptureStoppedError: ``should_stop`` said so.
    """
    sweep = Sweep.of(model, semantics, layers, experts, placebo, seed)
    keep_freed_memory()
    planned = plan(documents, tokenizer, model.config.max_position_embeddings if window is None else window)
    meta = experiment_meta(model, tokenizer, documents, (model_name, corpus_name), planned)
    meta |= {"semantics": semantics, "placebo": placebo, "seed": seed, "experts": model.config.num_local_experts}
    named = [meta["model"], meta["corpus"], sweep.named(), window, positions_in_a_batch]
    parts = ResultParts(None if path is None else Path(path), hashlib.sha256(json.dumps(named).encode()).hexdigest())
    _fill(parts, model, planned, sweep, positions_in_a_batch, on_progress, should_stop)
    result = _joined(parts, planned, sweep, meta)
    if path is not None:
        result.save(path)
    parts.remove()
    return result


@dataclass(frozen=True)
class Sweep:
    """Which experts are taken away, and how."""

    semantics: Semantics
    layers: tuple[int, ...]
    experts: tuple[int, ...]
    placebo: bool
    seed: int

    @classmethod
    def of(
        cls, model: MixtralForCausalLM, semantics: Semantics, layers: Sequence[int] | None,
        experts: Sequence[int] | None, placebo: bool, seed: int,
    ) -> "Sweep":  # fmt: skip
        """A sweep that fits the model, or an InputError."""
        if semantics not in get_args(Semantics):
            raise InputError(f"semantics must be one of {', '.join(get_args(Semantics))}, but {semantics!r} came")
        config = model.config
        chosen = tuple(range(config.num_hidden_layers)) if layers is None else tuple(dict.fromkeys(layers))
        named = tuple(range(config.num_local_experts)) if experts is None else tuple(dict.fromkeys(experts))
        if not chosen or not named:
            raise InputError("an ablation needs at least one layer and one expert, but none was named")
        MaskExpert(layer=chosen, expert=named[:1]).check(config)
        for expert in named:  # one after the other, since one is taken away at a time
            (MaskExpert if semantics == "mask" else ZeroExpert)(layer=chosen, expert=expert).check(config)
        return cls(semantics, chosen, named, placebo, seed)

    @property
    def runs(self) -> int:
        """Runs over every token, the one without ablation counted."""
        return 1 + len(self.layers) * len(self.experts) * (2 if self.placebo else 1)

    def named(self) -> list[Any]:
        """What tells it from others."""
        return [self.semantics, self.layers, self.experts, self.placebo, self.seed]

    def edit(self, layer: int, expert: int, means: np.ndarray | None) -> Instrument:
        """The instrument that takes an expert away."""
        if self.semantics == "mask":
            return MaskExpert(layer=layer, expert=expert)
        if self.semantics == "mean":
            assert means is not None
            return MeanExpert(layer=layer, expert=expert, mean=tuple(means[layer, expert].tolist()))
        return ZeroExpert(layer=layer, expert=expert, renormalise=self.semantics == "zero_renorm")


def _fill(
    parts: ResultParts, model: MixtralForCausalLM, planned: Plan, sweep: Sweep, positions: int,
    on_progress: OnProgress | None, should_stop: ShouldStop | None,
) -> None:  # fmt: skip
    """Make the parts that are missing: one for each batch and layer."""
    device, counted = model.lm_head.weight.device, counted_documents(planned)
    all_batches = [Batch.of(planned.token_ids, w, device) for w in batches(planned.windows, positions)]
    means = mean_outputs(model, all_batches) if sweep.semantics == "mean" else None
    tracker = Tracker(len(planned.documents), len(planned.token_ids) * sweep.runs, 0, on_progress)
    done: set[int] = set()
    for number, batch in enumerate(all_batches):
        missing = [layer for layer in sweep.layers if parts.get(_name(number, layer)) is None]
        kept = Restart.of(model, batch, counted, missing) if missing else None
        told = len(sweep.layers) - len(missing)
        tracker.add(len(batch.rows) * (1 + told * (sweep.runs - 1) // len(sweep.layers)), len(done))
        for layer in missing:
            assert kept is not None

            def tell(runs: int, batch: Batch = batch) -> None:
                if should_stop is not None and should_stop():
                    raise CaptureStoppedError
                tracker.add(runs * len(batch.rows), len(done))

            parts.put(_name(number, layer), _part(kept, sweep, layer, means, tell))
        done.update(w.document for w in batch.windows)


def _name(batch: int, layer: int) -> str:
    return f"{batch:06d}-{layer:04d}"


@torch.inference_mode()
def _part(
    kept: Restart, sweep: Sweep, layer: int, means: np.ndarray | None, tell: Callable[[int], None]
) -> Result:  # fmt: skip
    """One layer on one batch: sums of nll per document without ablation, with each, and with each placebo."""
    arrays: dict[str, np.ndarray] = {"nll": kept.sums(kept.nll), "tokens": kept.tokens(), "documents": kept.documents}
    for name, run in _runs(kept, sweep, layer, means):
        arrays[name] = np.stack(list(_told(run, tell)))
    arrays["routed"] = np.stack([kept.routed(layer, expert) for expert in sweep.experts])
    keys = {name: ("expert", "place") if array.ndim == 2 else ("place",) for name, array in arrays.items()}
    return Result("ablation part", arrays, keys)


def _told(runs: Iterator[np.ndarray], tell: Callable[[int], None]) -> Iterator[np.ndarray]:
    for found in runs:
        tell(1)
        yield found


def _runs(
    kept: Restart, sweep: Sweep, layer: int, means: np.ndarray | None
) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    yield "ablated", (kept.run(layer, sweep.edit(layer, expert, means)) for expert in sweep.experts)
    if sweep.placebo:
        yield "placebo", (kept.run(layer, _placebo(kept, sweep, layer, expert, means)) for expert in sweep.experts)


def _placebo(kept: Restart, sweep: Sweep, layer: int, expert: int, means: np.ndarray | None) -> Instrument:
    batch, experts, ids = kept.batch, kept.model.config.num_local_experts, kept.choices[layer].cpu().numpy()
    damaged = matched_assignments(
        ids, ids == expert, batch.windows, batch.ids.shape[1], num_experts=experts, seed=(sweep.seed, layer, expert)
    )  # fmt: skip
    device = kept.choices[layer].device
    own = None if means is None else torch.from_numpy(means[layer]).to(device)
    return DamageAssignments(layer, torch.from_numpy(damaged).to(device), sweep.semantics, own)


def _joined(parts: ResultParts, planned: Plan, sweep: Sweep, meta: dict[str, Any]) -> Result:
    shape = (len(sweep.layers), len(sweep.experts), len(planned.documents))
    names = ("ablated", "placebo", "routed") if sweep.placebo else ("ablated", "routed")
    sums = {name: np.zeros(shape) for name in names}
    base = {name: np.zeros(shape[2]) for name in ("nll", "tokens")}
    for name, part in parts.ready.items():
        layer = sweep.layers.index(int(name.split("-")[1]))
        own = part["documents"]  # a document may be in several batches, but is only once in each
        for array, total in sums.items():
            total[layer][:, own] += part[array]
        if layer == 0:
            for array in base:
                base[array][own] += part[array]
    keys = dict.fromkeys(sums, ("layer", "expert", "document")) | dict.fromkeys(base, ("document",))
    labels = {"layer": sweep.layers, "expert": sweep.experts, "document": tuple(planned.documents["id"].astype(str))}
    return Result("ablation", sums | base, keys, labels, meta)
