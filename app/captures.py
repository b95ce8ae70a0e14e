"""Capturing from the page: what may be asked for, and the one registry of jobs."""

import atexit
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
import settings
import streamlit as st
from jobs import JobRegistry, StoppedError

from mixtral_probe import InputError
from mixtral_probe.corpus import Document, read_corpus

if TYPE_CHECKING:
    from mixtral_probe import Probe
    from mixtral_probe.run import Estimate

KIND = "capture"
_POSITIONS = 2048
"""Padded positions in a batch: small, because progress and cancelling wait for a batch."""


@dataclass(frozen=True)
class Request:
    """What somebody wants captured."""

    documents: tuple[Document, ...]
    attention: str = ""
    """Layers whose attention is recorded, as `attention_plan` reads them."""
    window: int | None = None
    model: str = models.EMBEDDED
    """Or a folder."""

    @property
    def about(self) -> str:
        """What it is, in a few words."""
        by = "" if self.model == models.EMBEDDED else f" · {Path(self.model).name}"
        if len(self.documents) == 1:
            return quoted(self.documents[0].text) + by
        domains = sorted({str(document.labels.get("domain", "")) for document in self.documents} - {""})
        return f"{len(self.documents)} documents" + (f" · {', '.join(domains)[:60]}" if domains else "") + by


def quoted(text: str) -> str:
    """The beginning of a text in quotation marks."""
    words = " ".join(text.split())
    return f"“{words[:40]}…”" if len(words) > 41 else f"“{words}”"


def probe() -> "Probe":
    """The embedded model."""
    return models.embedded()


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
        InputError: the request breaks a rule, would take too much disk, or its model is at work.
    """
    with models.use(request.model, wait=False) as probe:
        found = probe.estimate(request.documents, attention=request.attention, window=request.window)
    if found.disk_bytes > settings.CAPTURE_BYTES:
        raise InputError(
            f"a capture from the page may take {settings.CAPTURE_BYTES / 1e9:.1f} GB of disk, but this one needs "
            f"{found.disk_bytes / 1e9:.1f} GB; record the attention of fewer layers, or choose fewer texts"
        )
    return found


def start(request: Request) -> str:
    """Put a capture in line; returns its job's id."""

    def work(path: Path, tell: Callable[[Any], None], stop: Callable[[], bool]) -> None:
        from mixtral_probe.run import CaptureStoppedError

        with models.use(request.model, wait=True) as probe:
            try:
                probe.trace(
                    request.documents,
                    attention=request.attention,
                    window=request.window or probe.model.config.max_position_embeddings,
                    path=path,
                    on_progress=tell,
                    should_stop=stop,
                    positions_in_a_batch=_POSITIONS,
                )
            except CaptureStoppedError:
                raise StoppedError from None

    return submit("Capture", request.about, work, KIND)


def submit(name: str, about: str, work: Any, kind: str) -> str:
    """Put work of this session in line, under a name with the next number; returns its job's id.

    Raises:
        InputError: the line is full.
    """
    number = st.session_state.get(f"{kind}_number", 0) + 1
    job_id = registry().submit(session(), f"{name} {number}", about, work, kind=kind)
    st.session_state[f"{kind}_number"] = number
    return job_id
