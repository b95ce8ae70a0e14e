"""Keys and values of the positions seen so far."""

from typing import Any

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.inputs import require_rows


class KVCache:
    """Rotated keys and values per layer; each call appends its own.

    Every position is kept, also with a sliding window, which is applied by the mask: so a cache can be cropped to any
    length, and attention weights have a column for every position.
    """

    def __init__(self) -> None:
        self._layers: list[tuple[Tensor, Tensor]] = []
        self.calls = 0
        """Forward calls made on this cache."""

    def __len__(self) -> int:
        """Number of positions."""
        return self._layers[0][0].shape[2] if self._layers else 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of positions, the same in every layer; the name of transformers for ``len``."""
        return len(self)

    @property
    def batch_size(self) -> int:
        """Number of rows; 0 at first."""
        return self._layers[0][0].shape[0] if self._layers else 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add [B, H_kv, S, D] to a layer; returns all keys and values, [B, H_kv, M, D]."""
        if layer == len(self._layers):  # in the memory layout that appending gives, as in transformers
            self._layers.append((key.contiguous(), value.contiguous()))
        else:
            old_key, old_value = self._layers[layer]
            self._layers[layer] = torch.cat((old_key, key), dim=2), torch.cat((old_value, value), dim=2)
        return self._layers[layer]

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows [N] of the batch, in this order; a row may be repeated or left out.

        Raises:
            InputError: a row does not exist.
        """
        require_rows(rows, self.batch_size)
        indices = [rows.to(key.device) for key, _ in self._layers]  # layers may lie on different devices
        self._layers = [
            (key.index_select(0, index), value.index_select(0, index))
            for (key, value), index in zip(self._layers, indices, strict=True)
        ]

    def crop(self, length: int) -> None:
        """Keep the first ``length`` positions only.

        Raises:
            InputError: the cache has fewer.
        """
        sizes = [key.shape[2] for key, _ in self._layers] or [0]
        if not 0 <= length <= min(sizes):
            raise InputError(f"a cache can be cropped to 0–{min(sizes)} positions, those it holds, got {length}")
        self._layers = [(key[:, :, :length], value[:, :, :length]) for key, value in self._layers]

    def copy(self) -> "KVCache":
        """A copy that is extended independently; tensors are shared until then."""
        twin = KVCache()
        twin._layers, twin.calls = list(self._layers), self.calls
        return twin

    def require_fit(self, batch: int, num_layers: int) -> None:
        """Raise InputError unless a call of ``batch`` rows and that many layers can continue it."""
        if not len(self):
            self._layers = []
            return
        if self.batch_size != batch:
            raise InputError(
                f"past_key_values must hold as many rows as the input ({batch}), got {self.batch_size}; reorder it"
            )
        if len(self._layers) != num_layers or any(key.shape[2] != len(self) for key, _ in self._layers):
            raise InputError(
                f"past_key_values must hold the same positions for each of the {num_layers} layers, got "
                f"{[key.shape[2] for key, _ in self._layers]}; a call that failed may have left it so: crop it"
            )


def past_length(cache: Any, batch: int, num_layers: int) -> int:
    """Number of positions in ``past_key_values``, which must be None or a ``KVCache`` that fits the call."""
    if cache is None:
        return 0
    if not isinstance(cache, KVCache):
        raise InputError(
            f"past_key_values must be a KVCache of mixtral_probe, got a {type(cache).__name__}; make one with "
            "mixtral_probe.model.KVCache()"
        )
    cache.require_fit(batch, num_layers)
    return len(cache)
