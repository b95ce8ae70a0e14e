"""Draws that depend on the text and not on how it was batched."""

import hashlib

import torch

from mixtral_probe.instruments.edits.rows import BatchRow
from mixtral_probe.model import ForwardContext


def generator(seed: int, layer: int, row: BatchRow, context: ForwardContext) -> torch.Generator:
    """The source of draws for one layer of one window in one call; on the CPU, so that devices agree."""
    name = f"{seed} {layer} {row.document} {row.chunk} {context.step if context.phase == 'decode' else 0}"
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
