"""Results of parts of a long experiment, kept until all are there."""

import shutil
from pathlib import Path

from mixtral_probe.files import check_target, plain_errors
from mixtral_probe.run.trace_parts import open_parts, parts_folder
from mixtral_probe.trace import Result
from mixtral_probe.trace.result import MARKER

ENDING = ".result"


class ResultParts:
    """Parts by name: in memory, or in ``<path>.parts``, where the same run finds them again.

    Args:
        path: of the result to be.
        name: the same for two runs that must make the same parts.

    Raises:
        InputError: the path is taken, or the folder holds parts of another run.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        self.ready: dict[str, Result] = {}
        self._folder = None if path is None else parts_folder(path)
        if path is not None and self._folder is not None:
            check_target(path, MARKER)
            with plain_errors(self._folder):
                open_parts(self._folder, name)
            self.ready = {place.stem: Result.load(place) for place in sorted(self._folder.glob(f"*{ENDING}"))}

    def get(self, name: str) -> Result | None:
        """A part, or None while it is not made."""
        return self.ready.get(name)

    def put(self, name: str, part: Result) -> None:
        """Keep a part; on disk it survives the process."""
        self.ready[name] = part
        if self._folder is not None:
            part.save(self._folder / f"{name}{ENDING}")

    def remove(self) -> None:
        """Forget everything, also on disk."""
        self.ready.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder)
