"""Ablation: every expert is replaced, one at a time, and the loss measured again.

Each run begins with the stored hidden state before the layer it changes, since the layers below stay the same.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, get_args

import numpy as np

from mixtral_probe.errors import InputError
from mixtral_probe.experiments.expert_placebo import ExpertPlacebo
from mixtral_probe.experiments.layer_rerun import LayerRerun
from mixtral_probe.experiments.mean_outputs import mean_outputs
from mixtral_probe.experiments.result_parts import ResultParts
from mixtral_probe.experiments.what_if import require_placebos
from mixtral_probe.instruments.edits import MaskExpert, MeanExpert, ZeroExpert
from mixtral_probe.instruments.placebo import Semantics
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.model.grouped_experts import eager_experts
from mixtral_probe.paths import checked_path
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import counted_documents
from mixtral_probe.run.passes import model_batches
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.trace.results import AblationPart, AblationResult

ABLATION_POSITIONS = 2048
"""Padded positions in a batch: its hidden states before every layer are kept while it runs."""
ABLATION_PLACEBOS = 7
"""Draws of each expert's placebo: the range of so many holds an exchangeable one in 75 % of cases."""


def ablation(
    subject: Subject,
    planned: Plan,
    options: RunOptions,
    *,
    semantics: Semantics = "mask",
    layers: Sequence[int] | None = None,
    experts: Sequence[int] | None = None,
    placebos: int = ABLATION_PLACEBOS,
    seed: int = 0,
    path: str | PathLike[str] | None = None,
) -> AblationResult:
    """Ablate every expert, one at a time, and measure the loss of every document; see ``Probe.ablation``.

    Progress counts a token once for every run over it.
    """
    sweep = Sweep.of(subject.model, semantics, layers, experts, placebos, seed)
    meta = experiment_meta(subject, planned)
    meta |= {"semantics": semantics, "placebos": placebos, "seed": seed, "experts": subject.config.num_local_experts}
    runs = [meta["model"], meta["corpus"], sweep.name(), planned.window, options.positions_in_a_batch]
    name = hashlib.sha256(json.dumps(runs).encode()).hexdigest()
    with ResultParts(AblationPart, None if path is None else checked_path(path), name) as parts:
        with eager_experts(sweep.semantics in ("zero", "mean")):
            _fill(parts, subject, planned, sweep, options)
        result = _joined(parts, planned, sweep, meta)
        if path is not None:
            result.save(path)
        parts.remove()
    return result


@dataclass(frozen=True)
class Sweep:
    """The experts to ablate, and how."""

    semantics: Semantics
    layers: tuple[int, ...]
    experts: tuple[int, ...]
    placebos: int
    """Draws of the placebo of each expert."""
    seed: int

    @classmethod
    def of(
        cls, model: MixtralForCausalLM, semantics: Semantics, layers: Sequence[int] | None,
        experts: Sequence[int] | None, placebos: int, seed: int,
    ) -> "Sweep":  # fmt: skip
        """Check a sweep against the model."""
        if semantics not in get_args(Semantics):
            raise InputError(f"semantics must be one of {', '.join(get_args(Semantics))}, got {semantics!r}")
        require_placebos(placebos)
        config = model.config
        chosen = tuple(range(config.num_hidden_layers)) if layers is None else tuple(dict.fromkeys(layers))
        named = tuple(range(config.num_local_experts)) if experts is None else tuple(dict.fromkeys(experts))
        if not chosen or not named:
            raise InputError("an ablation needs at least one layer and one expert, got none; None means all")
        MaskExpert(layer=chosen, expert=named[:1]).check(config)
        for expert in named:  # one after the other, since one is ablated at a time
            (MaskExpert if semantics == "mask" else ZeroExpert)(layer=chosen, expert=expert).check(config)
        return cls(semantics, chosen, named, placebos, seed)

    @property
    def runs(self) -> int:
        """Runs over every token, the one without ablation counted."""
        return 1 + len(self.layers) * len(self.experts) * (1 + self.placebos)

    def passes(self, num_layers: int) -> float:
        """How many forward passes that takes, where each run begins at the layer it changes."""
        return 1 + len(self.experts) * (1 + self.placebos) * sum(1 - layer / num_layers for layer in self.layers)

    def name(self) -> list[Any]:
        """The same for two sweeps with the same runs."""
        # An earlier version wrote whether there was a placebo, and drew it once.
        draws = bool(self.placebos) if self.placebos < 2 else self.placebos
        return [self.semantics, self.layers, self.experts, draws, self.seed]

    def edit(self, layer: int, expert: int, means: np.ndarray | None) -> Instrument:
        """The instrument that ablates an expert."""
        if self.semantics == "mask":
            return MaskExpert(layer=layer, expert=expert)
        if self.semantics == "mean":
            assert means is not None
            return MeanExpert(layer=layer, expert=expert, mean=tuple(means[layer, expert].tolist()))
        return ZeroExpert(layer=layer, expert=expert, renormalise=self.semantics == "zero_renorm")


def _fill(parts: ResultParts[AblationPart], subject: Subject, planned: Plan, sweep: Sweep, options: RunOptions) -> None:
    """Complete the parts that are missing: one for each batch and layer."""
    means = None
    if sweep.semantics == "mean":
        means = mean_outputs(subject, planned, replace(options, on_progress=None))
    tokens = sweep.runs * len(planned.token_ids)
    passes = Passes(options, documents=len(planned.documents), tokens=tokens)
    counted = counted_documents(planned)
    for number, batch in enumerate(model_batches(planned, subject.device, options)):
        missing = [layer for layer in sweep.layers if parts.get(_name(number, layer)) is None]
        complete = len(sweep.layers) - len(missing)
        with passes.step(len(batch.rows) * (1 + complete * (sweep.runs - 1) // len(sweep.layers))):
            rerun = LayerRerun.of(subject.model, batch, counted, missing) if missing else None
        for layer in missing:
            assert rerun is not None
            at_once = max(1, options.positions_in_a_batch // batch.size)
            parts.put(_name(number, layer), _part(rerun, sweep, layer, means, passes, at_once))
        passes.complete(len(batch.completes))


def _name(batch: int, layer: int) -> str:
    return f"{batch:06d}-{layer:04d}"


def _part(
    rerun: LayerRerun, sweep: Sweep, layer: int, means: np.ndarray | None, passes: Passes, at_once: int
) -> AblationPart:
    """One layer of one batch: sums of nll per document without ablation, with each, and with draws of its placebo.

    Args:
        at_once: draws in one forward pass.
    """
    tokens, by_expert = len(rerun.batch.rows), defaultdict[str, list[np.ndarray]](list)
    for expert in sweep.experts:
        with passes.step(tokens):
            by_expert["ablated"].append(rerun.run(layer, sweep.edit(layer, expert, means))[0])
        by_expert["routed"].append(rerun.routed(layer, expert))
        if not sweep.placebos:
            continue
        placebo, drawn = ExpertPlacebo(rerun, layer, expert, sweep.semantics, sweep.seed, means), []
        for first in range(0, sweep.placebos, at_once):
            draws = range(first, min(first + at_once, sweep.placebos))
            with passes.step(tokens * len(draws)):
                drawn.append(rerun.run(layer, placebo.instrument(draws), len(draws)))
        by_expert["draws"].append(np.concatenate(drawn))
        by_expert["log_arrangements"].append(placebo.log_arrangements())
    base = {"nll": rerun.sums(rerun.nll), "tokens": rerun.tokens(), "documents": rerun.documents}
    return AblationPart.of(base | {name: np.stack(values, axis=-2) for name, values in by_expert.items()})


def _joined(parts: ResultParts[AblationPart], planned: Plan, sweep: Sweep, meta: dict[str, Any]) -> AblationResult:
    """The sums of all parts; those that an earlier version left have one draw, and no count of arrangements."""
    shape = (len(sweep.layers), len(sweep.experts), len(planned.documents))
    sums = {name: np.zeros(shape) for name in ("ablated", "routed")}
    if sweep.placebos:
        sums |= {"draws": np.zeros((sweep.placebos, *shape)), "log_arrangements": np.zeros(shape)}
    base = {name: np.zeros(shape[2]) for name in ("nll", "tokens")}
    for name, part in parts.complete.items():
        layer = sweep.layers.index(int(name.split("-")[1]))
        documents = part.documents  # a document may be in several batches, but is only once in each
        for array, total in sums.items():
            if array in part.arrays:
                total[..., layer, :, :][..., documents] += part[array]
            elif array == "draws":
                total[0, layer][:, documents] += part.placebo
        if layer == 0:
            for array in base:
                base[array][documents] += part[array]
    labels = {"layer": sweep.layers, "expert": sweep.experts, "document": tuple(map(str, planned.documents["id"]))}
    return AblationResult.of(sums | base, labels, meta)
