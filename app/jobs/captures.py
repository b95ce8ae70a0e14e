"""Captures from the page: which ones are accepted, the resources they need, and the job that runs one."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.jobs import limits, models, registry
from mixtral_probe import InputError
from mixtral_probe.corpus import Document, read_corpus

if TYPE_CHECKING:
    from mixtral_probe.run import Plan, ResourceEstimate

KIND = "capture"
_POSITIONS = 2048
"""Padded positions in a batch: small, because progress and cancelling wait for a batch."""


@dataclass(frozen=True)
class Request:
    """A capture to run."""

    documents: tuple[Document, ...]
    attention: str = ""
    """Layers whose attention is recorded, as `attention_plan` reads them."""
    window: int | None = None
    model: str = models.EMBEDDED
    """Or a folder."""

    @property
    def about(self) -> str:
        """Describe it in a few words."""
        by = "" if self.model == models.EMBEDDED else f" · {Path(self.model).name}"
        if len(self.documents) == 1:
            return registry.quote(self.documents[0].text) + by
        domains = sorted({str(document.labels.get("domain", "")) for document in self.documents} - {""})
        return f"{len(self.documents)} documents" + (f" · {', '.join(domains)[:60]}" if domains else "") + by


def check(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Return the documents, if they are few and short enough for a capture from the page.

    Raises:
        InputError: they are too many or too long.
    """
    characters = sum(len(document.text) for document in documents)
    if len(documents) > limits.CAPTURE_DOCUMENTS or characters > limits.CAPTURE_CHARACTERS:
        raise InputError(
            f"a capture from the page takes at most {limits.CAPTURE_DOCUMENTS:,} documents and "
            f"{limits.CAPTURE_CHARACTERS:,} characters, got {len(documents):,} and {characters:,}; "
            "choose fewer, or use `mixtral-probe capture`"
        )
    return tuple(documents)


def read_upload(name: str, content: bytes) -> list[Document]:
    """Read the documents of an uploaded file.

    Raises:
        InputError: its content has another format than its name says; the sentence leaves out the folder of the upload.
    """
    with tempfile.TemporaryDirectory(prefix="mixtral-probe-upload-") as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(content)
        try:
            return read_corpus(path)
        except InputError as error:
            raise InputError(str(error).replace(f"{path.parent}/", "")) from None


def estimate(request: Request) -> tuple["Plan", "ResourceEstimate"]:
    """Tokenise the texts of a capture, for its run too, and estimate the resources it needs.

    Raises:
        InputError: the request breaks a rule, would take too much disk, or a job uses its model.
    """
    with models.use(request.model, wait=False) as probe:
        window = request.window or probe.model.config.max_position_embeddings
        planned = probe.plan(request.documents, window=window)
        needed = probe.estimate(planned, attention=request.attention)
    if needed.disk_bytes > limits.CAPTURE_BYTES:
        raise InputError(
            f"a capture from the page may take {limits.CAPTURE_BYTES / 1e9:.1f} GB of disk, got one of "
            f"{needed.disk_bytes / 1e9:.1f} GB; record the attention of fewer layers, or choose fewer texts"
        )
    return planned, needed


def start(request: Request, planned: "Plan") -> str:
    """Put the capture of a plan in the queue and return its job's id."""

    def work(path: Path, report: Callable[[Any], None], should_stop: Callable[[], bool]) -> None:
        with models.use_in_job(request.model) as probe:
            probe.trace(
                planned,
                attention=request.attention,
                path=path,
                on_progress=report,
                should_stop=should_stop,
                positions_in_a_batch=_POSITIONS,
            )

    return registry.submit("Capture", request.about, work, KIND)
