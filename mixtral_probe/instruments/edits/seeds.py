"""Draws that depend on the text and not on how it was batched."""

import hashlib

import torch

from mixtral_probe.instruments.edits.rows import BatchRow
from mixtral_probe.model import Call


def generator(seed: int, layer: int, row: BatchRow, call: Call) -> torch.Generator:
    """The source of draws for one layer of one window in one call; on the CPU, so that devices agree."""
    name = f"{seed} {layer} {row.document} {row.chunk} {call.step if call.phase == 'decode' else 0}"
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
