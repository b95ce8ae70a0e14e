"""Capturing from the page: the model, what may be asked for, and the one registry of jobs."""

import atexit
import functools
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import settings
import streamlit as st
from jobs import JobRegistry, StoppedError

from mixtral_probe import InputError
from mixtral_probe.corpus import Document, read_corpus

if TYPE_CHECKING:
    from mixtral_probe import Probe
    from mixtral_probe.engine import Estimate

_loading = threading.Lock()


@dataclass(frozen=True)
class Request:
    """What somebody wants captured."""

    documents: tuple[Document, ...]
    attention: str = ""
    """Layers whose attention is recorded, as `attention_plan` reads them."""
    window: int | None = None

    @property
    def about(self) -> str:
        """What it is, in a few words."""
        first = self.documents[0]
        if len(self.documents) == 1:
            words = " ".join(first.text.split())
            return f"“{words[:40]}…”" if len(words) > 41 else f"“{words}”"
        domains = sorted({str(document.labels.get("domain", "")) for document in self.documents} - {""})
        return f"{len(self.documents)} documents" + (f" · {', '.join(domains)[:60]}" if domains else "")


@functools.cache
def _probe() -> "Probe":
    from mixtral_probe import Probe

    return Probe.from_pretrained("mini")


def probe() -> "Probe":
    """The embedded model, loaded by whoever needs it first, page or worker; nothing is ever attached to it.

    Not through Streamlit's cache, which belongs to pages: the worker thread has none.
    """
    with _loading:
        return _probe()


@st.cache_resource(max_entries=1, show_spinner=False)
def registry() -> JobRegistry:
    """The jobs of this process; their folder goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="mixtral-probe-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return JobRegistry(folder)


def session() -> str:
    """This session's own name, which no other session knows."""
    return st.session_state.setdefault("session", uuid.uuid4().hex)


def check(documents: Sequence[Document]) -> tuple[Document, ...]:
    """The documents, if a page may ask for as many.

    Raises:
        InputError: they are too many or too long.
    """
    characters = sum(len(document.text) for document in documents)
    if len(documents) > settings.CAPTURE_DOCUMENTS or characters > settings.CAPTURE_CHARACTERS:
        raise InputError(
            f"a capture from the page takes at most {settings.CAPTURE_DOCUMENTS:,} documents and "
            f"{settings.CAPTURE_CHARACTERS:,} characters, but {len(documents):,} and {characters:,} came; "
            "choose fewer, or use `mixtral-probe capture`"
        )
    return tuple(documents)


def uploaded(name: str, content: bytes) -> list[Document]:
    """The documents of an uploaded file.

    Raises:
        InputError: it is not what its name says; the sentence names the file, not where it lies here.
    """
    with tempfile.TemporaryDirectory(prefix="mixtral-probe-upload-") as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(content)
        try:
            return read_corpus(path)
        except InputError as error:
            raise InputError(str(error).replace(f"{path.parent}/", "")) from None


def estimate(request: Request) -> "Estimate":
    """What a capture will take.

    Raises:
        InputError: the request breaks a rule, or would take too much disk.
    """
    found = probe().estimate(request.documents, attention=request.attention, window=request.window)
    if found.disk_bytes > settings.CAPTURE_BYTES:
        raise InputError(
            f"a capture from the page may take {settings.CAPTURE_BYTES / 1e9:.1f} GB of disk, but this one needs "
            f"{found.disk_bytes / 1e9:.1f} GB; record the attention of fewer layers, or choose fewer texts"
        )
    return found


def start(request: Request) -> str:
    """Put a capture in line; returns its job's id."""

    def work(path: Path, tell: Callable[[Any], None], stop: Callable[[], bool]) -> None:
        from mixtral_probe.engine import CaptureStoppedError

        model = probe()
        try:
            model.trace(
                request.documents,
                attention=request.attention,
                window=request.window or model.model.config.max_position_embeddings,
                path=path,
                on_progress=tell,
                should_stop=stop,
                positions_in_a_batch=_POSITIONS,
            )
        except CaptureStoppedError:
            raise StoppedError from None

    number = st.session_state.get("capture_number", 0) + 1
    job_id = registry().submit(session(), f"Capture {number}", request.about, work)
    st.session_state["capture_number"] = number
    return job_id


_POSITIONS = 2048
"""Padded positions in a batch: small, because progress and cancelling wait for a batch."""
