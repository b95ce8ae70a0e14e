"""Rows of training tokens: every domain in every step, so that the balance loss sees the whole mixture."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BOS = 1


class Domains:
    """The token streams of all domains, memory-mapped: ``FOLDER/<domain>.npy``, uint16, each document after a BOS."""

    def __init__(self, folder: Path) -> None:
        self.names = sorted(path.stem for path in folder.glob("*.npy"))
        if not self.names:
            raise SystemExit(f"training needs <domain>.npy files, but {folder} has none; run prepare.py")
        self.streams = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.names]
        self.starts = [np.flatnonzero(np.asarray(stream) == BOS) for stream in self.streams]

    def rows(self, count: int, length: int, step: int, seed: int) -> Tensor:
        """[count, length] int64, determined by ``step`` and ``seed``: one row of each domain in turn, half of them from
        the beginning of a document."""
        generator = np.random.default_rng((seed, step))
        order = generator.permutation(len(self.streams))
        rows = [self._row(int(order[i % len(order)]), length, generator) for i in range(count)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def _row(self, domain: int, length: int, generator: np.random.Generator) -> np.ndarray:
        stream, starts = self.streams[domain], self.starts[domain]
        last = len(stream) - length
        if generator.random() < 0.5:
            start = min(int(generator.choice(starts)), last)
        else:
            start = int(generator.integers(0, last))
        return np.asarray(stream[start : start + length])
