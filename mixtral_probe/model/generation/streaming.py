"""Streamers: new tokens are passed on as they are chosen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from torch import Tensor

TokenCallback = Callable[[Tensor], None]


@runtime_checkable
class Streamer(Protocol):
    """What transformers calls a streamer, such as its ``TextStreamer``."""

    def put(self, value: Tensor) -> None:
        """Take the prompt [B, S], then the new tokens [B] of every step, on the CPU."""
        ...

    def end(self) -> None:
        """Take the end."""
        ...


@contextmanager
def open_stream(streamer: Streamer | TokenCallback | None, prompt: Tensor) -> Iterator[TokenCallback | None]:
    """Yield what takes the tokens [B] of a step: a function itself, or a streamer, which gets prompt and end too."""
    if isinstance(streamer, Streamer):
        put = streamer.put
        put(prompt.cpu())
        yield lambda tokens: put(tokens.cpu())
        streamer.end()
    else:
        yield streamer
