"""Random numbers that depend on the text and not on its batch."""

import hashlib

import torch

from mixtral_probe.instruments.edits.rows import BatchRow
from mixtral_probe.model import ForwardContext


def generator(seed: int, layer: int, row: BatchRow, context: ForwardContext) -> torch.Generator:
    """Return the random generator of one layer, window and call; on the CPU, so that all devices agree."""
    name = f"{seed} {layer} {row.document} {row.chunk} {context.step if context.phase == 'decode' else 0}"
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
