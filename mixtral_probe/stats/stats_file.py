"""The content of a statistics file: which arrays are kept by cell, and what files of version 4 lack."""

from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.reading import one_sentence
from mixtral_probe.stats import file_checks, storage
from mixtral_probe.stats.affinity import Affinity
from mixtral_probe.stats.blocks import MAX_BLOCKS_OF_VERSION_4
from mixtral_probe.stats.shuffled_repeats import RepeatCounts, shuffled_repeats
from mixtral_probe.stats.structure import Structure, sets_of_earlier, transition_choices_of_earlier
from mixtral_probe.stats.sums import Sums
from mixtral_probe.stats.value_sums import ValueSums, values_of_documents

Names = dict[str, Any]
Arrays = dict[str, NDArray[Any]]
_STRUCTURE, _VALUES = "structure.", "values."
_SETS, _CHOICES = f"{_STRUCTURE}sets", f"{_STRUCTURE}transition_choices"
_REMEDY = "make the statistics from the trace with RoutingStats.from_trace and save them again"


class Content(NamedTuple):
    """The arrays of statistics, as fields of `RoutingStats`."""

    block_keys: NDArray[np.uint64]
    sums: Sums
    value_sums: ValueSums
    histogram: NDArray[np.int64] | None
    structure: Structure
    affinity: Affinity


def write(path: str | PathLike[str], names: Names, content: Content, of: str | None = None) -> None:
    """Write names, which must be JSON values, and arrays, of the sums only the cells that occur; of: see `storage`."""
    cells = storage.occurring_cells(content.sums.tokens)
    by_cell = content.sums.arrays() | _prefixed(_STRUCTURE, content.structure.arrays())
    by_cell |= _prefixed(_VALUES, content.value_sums.arrays())
    arrays = {name: storage.narrow(storage.of_cells(array, cells)) for name, array in by_cell.items()}
    arrays |= {"cells": storage.narrow(cells), "block_keys": content.block_keys}
    if content.histogram is not None:
        arrays["histogram"] = storage.narrow(content.histogram)
    more_names, affinity = content.affinity.stored()
    storage.write(path, names | more_names, arrays | affinity, of)


def read(path: str | PathLike[str]) -> tuple[Names, Content]:
    """Read what `write` wrote, or version 4 did.

    Raises:
        InputError: the file is missing, of another kind, or written by another version.
    """
    with one_sentence("statistics must be a whole file of mixtral-probe", path, _REMEDY):
        return _content(*storage.read(path))


def _content(names: Names, arrays: Arrays) -> tuple[Names, Content]:
    if names.pop("version") < storage.VERSION:
        names["modulus"] = MAX_BLOCKS_OF_VERSION_4 if names.pop("folded") else None
    blocks, affinity = arrays.pop("block_keys"), Affinity.restored(names, arrays)
    names = file_checks.checked_names(names)
    if affinity.byte_counts.low.shape[1] != len(names["layers"]):
        raise ValueError(f"counts of token types in {affinity.byte_counts.low.shape[1]} layers")
    arrays = {name: storage.widened(array) for name, array in arrays.items()}
    histogram = arrays.pop("histogram", None)
    by_cell = _by_cell(arrays, len(names["groups"]), len(blocks))
    chosen = names["num_experts_per_tok"]
    by_cell[_SETS] = sets_of_earlier(by_cell[_SETS], names["num_experts"], chosen)
    if _CHOICES not in by_cell:
        by_cell[_CHOICES] = transition_choices_of_earlier(by_cell[f"{_STRUCTURE}transitions"], chosen)
    file_checks.check_shapes(names, by_cell, len(blocks))
    if histogram is not None and histogram.shape != (shape := file_checks.histogram_shape(names)):
        raise ValueError(f"a histogram of the shape {histogram.shape}, where {shape} is needed")
    structure = Structure(**_with_prefix(_STRUCTURE, by_cell))
    sums = Sums(**{name: array for name, array in by_cell.items() if "." not in name})
    values = _with_prefix(_VALUES, by_cell)
    if names["modulus"] is None:
        values = _values_of_blocks(sums, structure) | values
    return names, Content(blocks.astype(np.uint64), sums, ValueSums(**values), histogram, structure, affinity)


def _values_of_blocks(sums: Sums, structure: Structure) -> Arrays:
    """Return the sums of values of documents, each of which is one block."""
    pairs = structure.pairs if sums.load.shape[-2] == 2 else structure.pairs[..., :0, :0]
    apart = structure.repeats.sum((-1, -2))
    counts = RepeatCounts(sums.tokens, sums.load, apart, pairs, structure.sets)
    return values_of_documents(sums) | shuffled_repeats(counts)


def _by_cell(arrays: Arrays, groups: int, blocks: int) -> Arrays:
    """[L, G, Bk, ...] the sums of a file; those of version 4 have every cell."""
    if "cells" not in arrays:
        return arrays
    cells = arrays["cells"]
    file_checks.check_expansion(arrays, cells, groups, blocks)
    return {name: storage.spread(array, cells, groups, blocks) for name, array in arrays.items() if name != "cells"}


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def _with_prefix(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
