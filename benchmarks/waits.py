"""How often the host waits for the device in some calls."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Places = list[str]
_READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")
"""Methods that bring a value to the host, which a dispatch mode does not see in inference mode."""
_COUNTED = {
    "aten::nonzero",
    "aten::bincount",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::equal",
}
"""Operations whose result has a size, or is a number, that the host must know."""


@contextmanager
def counted_waits(device: torch.device) -> Iterator[Places]:
    """Collect a line for every wait: what torch warns of on a CUDA device, what would wait there on a CPU."""
    places: Places = []
    with (_warned if device.type == "cuda" else _seen)(places):
        yield places


@contextmanager
def _warned(places: Places) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    places += [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


@contextmanager
def _seen(places: Places) -> Iterator[None]:
    with ExitStack() as stack:
        for name in _READS:
            stack.enter_context(mock.patch.object(Tensor, name, _counting(name, getattr(Tensor, name), places)))
        stack.enter_context(_Operations(places))
        yield


def _counting(name: str, method: Callable[..., Any], places: Places) -> Callable[..., Any]:
    def read(self: Tensor, *arguments: Any, **options: Any) -> Any:
        places.append(_line(name))
        return method(self, *arguments, **options)

    return read


class _Operations(TorchDispatchMode):
    def __init__(self, places: Places) -> None:
        super().__init__()
        self._places = places

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().split(".")[0]
        if name in _COUNTED or (name in ("aten::index", "aten::index_put_") and any(map(_is_mask, args[1]))):
            self._places.append(_line(name))
        return function(*args, **(kwargs or {}))


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _line(what: str) -> str:
    """What was called, and the innermost line of this project it was called from."""
    frame = sys._getframe(2)
    while frame.f_back is not None and "mixtral_probe" not in frame.f_code.co_filename.split("/"):
        frame = frame.f_back
    return f"{what} {'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_lineno}"
