"""The checks of a statistics file: names of the right types, and arrays of the shapes that the names say."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mixtral_probe.reading import MIB
from mixtral_probe.stats.blocks import MAX_BLOCKS
from mixtral_probe.stats.chunks import MAX_LAG
from mixtral_probe.stats.per_token import CONFIDENCE, NUM_BINS
from mixtral_probe.stats.structure import POSITION_BUCKETS, num_sets

EXPANSION, SMALL = 1_000, 256 * MIB
"""Bytes in memory for each byte of the cells that a file has, and of any file."""
_Size = Annotated[int, Field(ge=1, le=32_768)]
_Layer = Annotated[int, Field(ge=0, lt=2**31)]


class Names(BaseModel):
    """The names of statistics, those of `Affinity` left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: Annotated[tuple[_Layer, ...], Field(min_length=1)]
    layer_pairs: tuple[tuple[_Layer, _Layer], ...]
    num_experts: _Size
    num_experts_per_tok: _Size
    by: str | None
    include_special: bool
    where: str | None
    groups: Annotated[tuple[str, ...], Field(min_length=1)]
    modulus: _Size | None


def checked_names(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names in their types.

    Raises:
        ValueError: one is missing, unknown, or of another type.
    """
    try:
        return dict(Names(**names))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def check_expansion(arrays: Mapping[str, NDArray[Any]], cells: NDArray[Any], groups: int, blocks: int) -> None:
    """Raise ValueError where the cells that a file lacks would take very many times the memory of those it has."""
    if blocks > MAX_BLOCKS or cells.ndim != 1:
        raise ValueError(f"{blocks:,} blocks, where there are at most {MAX_BLOCKS}")
    stored = sum(array.nbytes for array in arrays.values())
    needed = stored // max(1, len(cells)) * groups * blocks
    if needed > SMALL + EXPANSION * stored:
        raise ValueError(f"{groups:,} groups of which few have tokens, which take {needed / 1e9:.3g} GB")


def check_shapes(names: Mapping[str, Any], arrays: Mapping[str, NDArray[Any] | None], blocks: int) -> None:
    """Raise ValueError where an array of sums, named as in a file, has another shape than the names say."""
    lead = (len(names["groups"]), blocks)
    tails = _tails(names["num_experts"], names["num_experts_per_tok"])
    for name, array in arrays.items():
        first = len(names["layer_pairs" if "transition" in name else "layers"])
        expected = (first, *lead, *tails[name.rpartition(".")[2]])
        if array is None or array.shape == expected or (name.endswith("shuffled_repeats") and array.ndim == 5):
            continue
        raise ValueError(f"{name} of the shape {array.shape}, where {expected} is needed")


def check_affinity(low: NDArray[Any], high: NDArray[Any], rows: NDArray[Any], keys: NDArray[Any]) -> None:
    """Raise ValueError where the counts [R, L, E] of token types do not fit their keys and one another."""
    if low.ndim != 3 or len(low) != len(keys) or high.shape != (len(rows), *low.shape[1:]):
        raise ValueError(f"counts of token types of the shapes {low.shape} and {high.shape} for {len(keys):,} types")
    if rows.size and (rows.min() < 0 or rows.max() >= len(keys)):
        raise ValueError(f"counts above 255 in row {rows.max():,} of {len(keys):,} types")


def histogram_shape(names: Mapping[str, Any]) -> tuple[int, ...]:
    """Return [L, G, Q, bins]."""
    return len(names["layers"]), len(names["groups"]), len(CONFIDENCE), NUM_BINS


def _tails(experts: int, chosen: int) -> dict[str, tuple[int, ...]]:
    of_experts = dict.fromkeys(("probability", "gate", "choice_share", "gate_score"), (experts,))
    of_pairs = dict.fromkeys(("pairs", "transitions", "transitions_all"), (experts, experts))
    of_quantities = dict.fromkeys(("confidence", "confidence_tokens"), (len(CONFIDENCE),))
    numbers = ("tokens", "z_loss", "windows", "violation", "violation_chance", "loss", "loss_chance", "documents")
    several = {
        "load": (chosen, experts),
        "repeats": (MAX_LAG, 2, chosen + 1),
        "transition_choices": (chosen, chosen),
        "positions": (POSITION_BUCKETS, experts),
        "sets": (num_sets(experts, chosen),),
        "shuffled_repeats": (2, MAX_LAG),
    }
    return of_experts | of_pairs | of_quantities | dict.fromkeys(numbers, ()) | several


def checked_tokens(pieces: Any) -> dict[int, str]:
    """Return the texts of token types by their ids, from those of a file.

    Raises:
        ValueError: they have another form.
    """
    if not isinstance(pieces, dict) or not all(isinstance(text, str) for text in pieces.values()):
        raise ValueError("texts of tokens that are no texts by id")
    ids = [int(token) for token in pieces]
    if not all(0 <= token < np.iinfo(np.int64).max for token in ids):
        raise ValueError("ids of tokens beyond 64 bits")
    return dict(zip(ids, pieces.values(), strict=True))
