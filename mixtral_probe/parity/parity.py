"""Ours against the installed transformers: how far every output differs, and whether the same experts are chosen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mixtral_probe.checkpoint import MixtralForCausalLM
from mixtral_probe.checkpoint.checkpoint import model_folder
from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model import Numerics
from mixtral_probe.parity.random_config import random_config, random_input, randomise, reference_library

LIMITS: dict[Numerics, float] = {"reference": 0.0, "fast": 1e-4}
"""The largest difference allowed: none, or this share of the largest value (of 1, where all are smaller)."""
LOSS_LIMIT = 1e-5
"""The same for the balance loss, whose sums run in another order."""
CLEAR = 1e-4
"""Experts must agree where the logits of the last chosen and the first left out lie further apart than this."""
KINDS = ("logits", "hidden_states", "router_logits", "attentions", "aux_loss")
"""The outputs that are compared, on positions that are no padding."""

OnRound = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RoutingAgreement:
    """How far the choices of experts agree."""

    choices: int
    """Rows of router logits compared, over all layers."""
    different: int
    """Rows with another set of experts."""
    missed: int
    """Of them, those whose margin is above ``CLEAR``."""
    smallest_margin: float | None
    """The smallest margin, in logits, of a row with another set of experts; None where there is none."""


@dataclass(frozen=True)
class ParityReport:
    """The differences between the two implementations."""

    differences: pd.DataFrame
    """numerics, output, largest (difference, as its limit is meant), limit, met: one row per output."""
    routing: dict[str, RoutingAgreement]
    """By numerics."""
    rounds: int
    model: str | None
    version: str
    """Of transformers."""

    @property
    def met(self) -> bool:
        """Whether every limit is met and no clear choice differs."""
        return bool(self.differences["met"].all()) and not any(agreement.missed for agreement in self.routing.values())


@dataclass
class _Comparison:
    """The differences of one numerics, over the rounds so far."""

    largest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    choices: int = 0
    margins: list[float] = field(default_factory=list)

    def add(self, ours: Any, theirs: Any, mask: Tensor | None, top_k: int, share: bool) -> None:
        margins: list[float] = []
        for a, b in zip(_rows(ours.router_logits, mask), _rows(theirs.router_logits, mask), strict=True):
            self.choices += len(b)
            margins += _other_choices(a, b, top_k)
        self.margins += margins
        if margins and max(margins) <= CLEAR:
            return  # a tie went the other way, and what follows from it is another computation
        for kind in KINDS:
            for a, b in _pairs(kind, ours, theirs, mask):
                difference = float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
                scale = max(1.0, float(b.abs().max())) if share and b.numel() else 1.0
                self.largest[kind] = max(self.largest[kind], difference / scale)

    def routing(self) -> RoutingAgreement:
        missed = sum(margin > CLEAR for margin in self.margins)
        return RoutingAgreement(self.choices, len(self.margins), missed, min(self.margins, default=None))


def parity(
    model: str | Path | None = None, rounds: int = 8, seed: int = 0, on_round: OnRound | None = None
) -> ParityReport:
    """Compare with transformers in float32 on the CPU, whose eager arithmetic is the reference.

    Args:
        model: a Hugging Face model folder, or "mini": compare on it too, with ``rounds`` random inputs.
        rounds: random models of uneven sizes, each with its random input.
        on_round: called with how many rounds are done, and of how many.

    Raises:
        InputError: transformers is missing or cannot read the folder.
    """
    library = reference_library()
    generator = np.random.default_rng(seed)
    total = rounds * (1 if model is None else 2)
    comparisons: dict[Numerics, _Comparison] = {numerics: _Comparison() for numerics in LIMITS}
    cases = [_random_cases(library, rounds, generator)]
    if model is not None:
        cases.append(_folder_cases(library, model_folder(model), rounds, generator))
    done = 0
    with torch.no_grad():
        for case in cases:
            for theirs, ours, ids, mask in case:
                expected = theirs(ids, attention_mask=mask, **_everything())
                for numerics, model_of in ours.items():
                    outputs = model_of(ids, attention_mask=mask, **_everything())
                    comparisons[numerics].add(
                        outputs, expected, mask, model_of.config.num_experts_per_tok, numerics == "fast"
                    )
                done += 1
                if on_round is not None:
                    on_round(done, total)
    return ParityReport(
        pd.DataFrame([row for item in comparisons.items() for row in _differences(*item)]),
        {numerics: comparison.routing() for numerics, comparison in comparisons.items()},
        done, None if model is None else str(model), library.__version__,
    )  # fmt: skip


def _everything() -> dict[str, Any]:
    names = ("output_router_logits", "output_attentions", "output_hidden_states", "return_dict")
    return dict.fromkeys(names, True) | {"use_cache": False}


def _differences(numerics: Numerics, comparison: _Comparison) -> Iterator[dict[str, Any]]:
    for kind, largest in comparison.largest.items():
        limit = LOSS_LIMIT if kind == "aux_loss" else LIMITS[numerics]
        yield {"numerics": numerics, "output": kind, "largest": largest, "limit": limit, "met": largest <= limit}


Case = tuple[Any, dict[Numerics, MixtralForCausalLM], Tensor, Tensor | None]


def _random_cases(library: Any, rounds: int, generator: np.random.Generator) -> Iterator[Case]:
    for _ in range(rounds):
        config = random_config(generator)
        theirs = library.MixtralForCausalLM._from_config(
            library.MixtralConfig(**config.to_dict()), attn_implementation="eager", experts_implementation="eager"
        ).eval()
        randomise(theirs, generator)
        weights = {name: weight.clone() for name, weight in theirs.state_dict().items()}
        yield theirs, _ours(config, weights), *random_input(config.vocab_size, generator)


def _folder_cases(library: Any, folder: Path, rounds: int, generator: np.random.Generator) -> Iterator[Case]:
    try:
        theirs = library.MixtralForCausalLM.from_pretrained(
            folder, dtype="float32", attn_implementation="eager", experts_implementation="eager", local_files_only=True
        ).eval()
    except (OSError, ValueError) as error:
        raise InputError(f"transformers must be able to read the model, got an error for {folder}: {error}") from None
    for weight in theirs.parameters():  # the last bits of a product depend on how memory is aligned
        weight.data = weight.data.clone()
    read = MixtralForCausalLM.from_pretrained(folder, dtype="float32", numerics="reference")
    ours = _ours(read.config, {name: weight.clone() for name, weight in read.state_dict().items()})
    for _ in range(rounds):
        yield theirs, ours, *random_input(read.config.vocab_size, generator)


def _ours(config: MixtralConfig, weights: dict[str, Tensor]) -> dict[Numerics, MixtralForCausalLM]:
    """A model of each numerics; they share the weights."""
    models: dict[Numerics, MixtralForCausalLM] = {}
    for numerics in LIMITS:
        with torch.device("meta"):
            models[numerics] = MixtralForCausalLM(config, numerics).eval()
        models[numerics].load_state_dict(weights, assign=True)
    return models


def _pairs(kind: str, ours: Any, theirs: Any, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    a, b = getattr(ours, kind), getattr(theirs, kind)
    if kind == "aux_loss":
        yield a, b
    else:
        yield from zip(*(_rows(values, mask) for values in (a, b)), strict=True)


def _rows(values: Any, mask: Tensor | None) -> list[Tensor]:
    """Each layer's output, the rows that are no padding first: [rows, …]."""
    rows = []
    for value in (values,) if isinstance(values, Tensor) else values:
        if value.dim() == 4:  # attention [B, H, S, M]
            value = value.transpose(1, 2)
        value = value.flatten(0, 1) if value.dim() > 2 else value
        rows.append(value if mask is None else value[mask.bool().flatten()])
    return rows


def _other_choices(ours: Tensor, theirs: Tensor, top_k: int) -> list[float]:
    """The margins of the rows [T, E] whose sets of chosen experts differ."""
    if top_k == theirs.shape[-1]:
        return []
    best = theirs.sort(dim=-1, descending=True, stable=True)
    same = ours.topk(top_k).indices.sort().values == theirs.topk(top_k).indices.sort().values
    margins = best.values[:, top_k - 1] - best.values[:, top_k]
    return margins[~same.all(-1)].tolist()
