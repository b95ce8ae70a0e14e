"""The models that pages and jobs run: the embedded one, and one other at a time."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.jobs.queue import StoppedError
from mixtral_probe import InputError

if TYPE_CHECKING:
    from mixtral_probe import Probe

EMBEDDED = "mini"
_loading, _other = threading.Lock(), threading.Lock()
_cached: dict[str, "Probe"] = {}
"""The one model besides the embedded one, by its folder; `_other` is locked while it is used or replaced."""


@functools.cache
def _embedded() -> "Probe":
    from mixtral_probe import Probe

    return Probe.from_pretrained(EMBEDDED)


def embedded() -> "Probe":
    """Return the embedded model, loaded at the first call; no instrument stays attached to it.

    Not through Streamlit's cache, which belongs to pages: the worker thread has none.
    """
    with _loading:
        return _embedded()


@contextmanager
def use(model: str, *, wait: bool) -> Iterator["Probe"]:
    """Yield a model for a `with` block.

    Args:
        model: "mini", or a folder.
        wait: whether to wait until the one model besides the embedded one is free.

    Raises:
        InputError: it cannot be loaded, or is not free.
    """
    if model == EMBEDDED:
        yield embedded()
        return
    if not _other.acquire(blocking=wait):
        raise InputError(
            "a model besides the embedded one is used by one job or page at a time, got a second use; "
            "try again when the running job has finished"
        )
    try:
        yield _loaded(model)
    finally:
        _other.release()


@contextmanager
def use_in_job(model: str) -> Iterator["Probe"]:
    """Yield a model for a job: wait for it, and end the job as stopped when its run is stopped."""
    from mixtral_probe.run import RunStoppedError

    with use(model, wait=True) as probe:
        try:
            yield probe
        except RunStoppedError:
            raise StoppedError from None


def _loaded(model: str) -> "Probe":
    if model not in _cached:
        from mixtral_probe import Probe

        _cached.clear()
        _cached[model] = Probe.from_pretrained(model)
    return _cached[model]
