"""Recorded attention: which layers and heads, packed lower triangles, and sums reduced during the run."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.trace.frames import window_starts

SUMS = ("entropy_bits", "distance", "sink")


@dataclass(frozen=True)
class AttentionPlan:
    """What to record of the attention: for each layer the heads, both counted from 0."""

    layers: Mapping[int, tuple[int, ...]]
    """layer → its heads; brought into ascending order."""
    maps: bool = True
    """Whether to record the maps, or only the sums per document, layer and head."""

    def __post_init__(self) -> None:
        ordered = {int(layer): tuple(sorted(map(int, self.layers[layer]))) for layer in sorted(self.layers)}
        for layer, heads in ordered.items():
            if not heads or len(set(heads)) != len(heads) or heads[0] < 0:
                raise InputError(f"a layer needs heads with different numbers, got {heads} for layer {layer}")
        object.__setattr__(self, "layers", ordered)

    def check(self, num_layers: int, num_heads: int | None) -> None:
        """Raise InputError when the plan has a layer or head that the model lacks."""
        if num_heads is None:
            raise InputError("recording attention needs the number of heads, got num_heads=None in the trace's meta")
        for layer, heads in self.layers.items():
            if not 0 <= layer < num_layers:
                raise InputError(f"layer must be in 0–{num_layers - 1}, got {layer}")
            if heads[-1] >= num_heads:
                raise InputError(f"head must be in 0–{num_heads - 1}, got {heads[-1]}")

    def as_text(self) -> str:
        """Return the plan as JSON, the form stored in files."""
        return json.dumps({"layers": {str(layer): heads for layer, heads in self.layers.items()}, "maps": self.maps})

    @classmethod
    def from_text(cls, text: str) -> "AttentionPlan":
        """Read what `as_text` returned."""
        fields = json.loads(text)
        return cls({int(layer): tuple(heads) for layer, heads in fields["layers"].items()}, maps=fields["maps"])


class _Tensors(Protocol):
    """Named arrays: a dict in memory or a memory-mapped file."""

    def __getitem__(self, name: str, /) -> np.ndarray: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """The recorded attention of a trace: maps by (document, chunk, layer), and sums."""

    plan: AttentionPlan
    tensors: _Tensors

    def block(self, document: int, chunk: int, layer: int) -> np.ndarray:
        """[heads, S(S+1)/2] float16, the plan's heads of one window; InputError when it was not recorded."""
        if not self.plan.maps:
            raise InputError("a trace needs recorded maps of the attention, got sums alone; record it again with maps")
        if layer not in self.plan.layers:
            recorded = ", ".join(map(str, self.plan.layers)) or "none"
            raise InputError(f"layer must be one whose attention was recorded ({recorded}), got {layer}")
        name = map_name(document, chunk, layer)
        if name not in self.tensors:
            raise InputError(f"the window must be recorded, got document {document}, chunk {chunk}; name another")
        return self.tensors[name]

    @property
    def sums(self) -> dict[str, np.ndarray]:
        """`tokens` [L, D]; `entropy_bits`, `distance`, `sink` [L, D, H]; see `layout`."""
        return {name: self.tensors[f"sums.{name}"] for name in ("tokens", *SUMS)}

    def select(self, documents: list[int]) -> "AttentionRecord":
        """Return the record of these documents, renumbered from 0 in this order."""
        tensors = {f"sums.{name}": values[:, documents] for name, values in self.sums.items()}
        number = {str(old): new for new, old in enumerate(documents)}
        for name in self.tensors:
            kind, document, *rest = name.split(".")
            if kind == "map" and document in number:
                tensors[".".join([kind, str(number[document]), *rest])] = self.tensors[name]
        return AttentionRecord(self.plan, tensors)


def attention_metadata(plan: AttentionPlan) -> dict[str, str]:
    """Return the metadata of the file with the recorded attention."""
    return {"format": "mixtral-probe attention", "plan": plan.as_text()}


def map_name(document: int, chunk: int, layer: int) -> str:
    """Return the name of one window's maps in the file."""
    return f"map.{document}.{chunk}.{layer}"


def windows_of(tokens: pd.DataFrame) -> list[tuple[int, int, int]]:
    """Return (document, chunk, S) of each window, in row order."""
    document, chunk = tokens["document"].to_numpy(), tokens["chunk"].to_numpy()
    starts = np.flatnonzero(window_starts(document, chunk))
    lengths = np.diff(np.append(starts, len(tokens)))
    return list(zip(document[starts].tolist(), chunk[starts].tolist(), lengths.tolist(), strict=True))


def layout(
    plan: AttentionPlan, windows: Iterable[tuple[int, int, int]], num_layers: int, num_documents: int, num_heads: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return name → (dtype, shape) of everything the plan will record.

    `sums.tokens` int64 [L, D]: query tokens added up; `sums.entropy_bits`, `sums.distance`, `sums.sink`
    float64 [L, D, H]: sums over those tokens i of −Σ_j a_ij log2 a_ij, of Σ_j a_ij (i − j) in tokens, and
    of a_i0; NaN for heads that are not in the plan. `map.<document>.<chunk>.<layer>` float16
    [heads, S(S+1)/2].
    """
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {"sums.tokens": ("<i8", (num_layers, num_documents))}
    tensors |= {f"sums.{name}": ("<f8", (num_layers, num_documents, num_heads)) for name in SUMS}
    if plan.maps:
        for document, chunk, length in windows:
            size = length * (length + 1) // 2
            for layer, heads in plan.layers.items():
                tensors[map_name(document, chunk, layer)] = ("<f2", (len(heads), size))
    return tensors


def clear_sums(record: AttentionRecord, documents: Iterable[int]) -> None:
    """Reset the sums of these documents: 0 where the plan records, NaN elsewhere."""
    rows = list(documents)
    sums = record.sums
    sums["tokens"][:, rows] = 0
    for name in SUMS:
        sums[name][:, rows] = np.nan
        for layer, heads in record.plan.layers.items():
            sums[name][layer, np.array(rows, dtype=int)[:, None], list(heads)] = 0.0


def pack_triangle(maps: np.ndarray) -> np.ndarray:
    """[heads, S, S] → [heads, S(S+1)/2]: the lower triangle row by row; entry (i, j) goes to i(i+1)/2 + j."""
    return maps[:, np.tri(maps.shape[-1], dtype=bool)]


def unpack_triangle(packed: np.ndarray) -> np.ndarray:
    """[heads, S(S+1)/2] → [heads, S, S] float32, zero above the diagonal."""
    size = (int(np.sqrt(8 * packed.shape[-1] + 1)) - 1) // 2
    maps = np.zeros((len(packed), size, size), dtype=np.float32)
    maps[:, np.tri(size, dtype=bool)] = packed
    return maps
