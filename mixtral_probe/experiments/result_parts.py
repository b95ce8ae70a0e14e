"""Parts of the result of a long experiment, kept until all are complete."""

from contextlib import ExitStack
from pathlib import Path
from typing import Generic, TypeVar

from mixtral_probe.run.parts_folder import PartsFolder
from mixtral_probe.trace import Result
from mixtral_probe.trace.results.result import MARKER

ENDING = ".result"
P = TypeVar("P", bound=Result)


class ResultParts(ExitStack, Generic[P]):
    """Parts by name: in memory, or in ``<path>.parts``, where the same run finds them again.

    A context manager: while it is open, no other run writes the path.

    Args:
        kind: the type of a part.
        path: of the final result.
        name: the same for two runs with the same parts.

    Raises:
        InputError: the path is taken or is being written, or the folder holds parts of another run.
    """

    def __init__(self, kind: type[P], path: Path | None, name: str) -> None:
        super().__init__()
        self.complete: dict[str, P] = {}
        self._folder = None if path is None else self.enter_context(PartsFolder(path, MARKER, name))
        if self._folder is not None:
            self.complete = {place.stem: kind.load(place) for place in sorted(self._folder.path.glob(f"*{ENDING}"))}

    def get(self, name: str) -> P | None:
        """A part, or None where it is not complete."""
        return self.complete.get(name)

    def put(self, name: str, part: P) -> None:
        """Keep a part, on disk where the parts have a folder."""
        self.complete[name] = part
        if self._folder is not None:
            part.save(self._folder.path / f"{name}{ENDING}")

    def remove(self) -> None:
        """Delete all parts, also on disk."""
        self.complete.clear()
        if self._folder is not None:
            self._folder.remove()
