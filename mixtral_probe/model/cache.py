"""Keys and values of the positions seen so far."""

import torch
from torch import Tensor


class KVCache:
    """Rotated keys and values per layer, appended to by each call that is given the cache."""

    def __init__(self) -> None:
        self._layers: list[tuple[Tensor, Tensor]] = []
        self.calls = 0
        """Forward calls made on this cache."""

    def __len__(self) -> int:
        """Positions held."""
        return self._layers[0][0].shape[2] if self._layers else 0

    @property
    def batch_size(self) -> int:
        """Rows held, 0 at first."""
        return self._layers[0][0].shape[0] if self._layers else 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add [B, H_kv, S, D] to a layer; returns all keys and values, [B, H_kv, M, D]."""
        if layer == len(self._layers):
            self._layers.append((key, value))
        else:
            old_key, old_value = self._layers[layer]
            self._layers[layer] = torch.cat((old_key, key), dim=2), torch.cat((old_value, value), dim=2)
        return self._layers[layer]

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows [N] of the batch, in this order; a row may come several times or not at all."""
        self._layers = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in self._layers]

    def crop(self, length: int) -> None:
        """Forget what lies beyond the first ``length`` positions."""
        self._layers = [(key[:, :, :length], value[:, :, :length]) for key, value in self._layers]
