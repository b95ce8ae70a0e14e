"""The folder of the parts of an unfinished trace or result, which one run at a time writes."""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from mixtral_probe import files
from mixtral_probe.errors import InputError
from mixtral_probe.json_files import read_json_object

PLAN = "plan.json"


class PartsFolder:
    """The folder `<path>.parts`, and the lock of the path; a context manager that releases it.

    Args:
        path: of the final trace or result.
        marker: the file that identifies a folder of its kind.
        name: the same for two runs with the same parts.

    Raises:
        InputError: the path is taken or is being written, or the folder holds parts of another run.
    """

    def __init__(self, path: Path, marker: str, name: str) -> None:
        self.path, self.target = path.with_name(f"{path.name}.parts"), path
        self._lock = files.lock_output(path)
        try:
            with files.plain_errors(self.path):
                files.remove_stale(path)
                files.check_target(path, marker)
                self._open(name)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, name: str) -> None:
        if not (self.path / PLAN).is_file():
            self._start(name)
        if read_json_object(self.path / PLAN, "delete the folder or write elsewhere").get("name") != name:
            raise InputError(
                f"{self.path} must hold this run, got an unfinished run with another model, text or settings; "
                "finish that one, delete the folder, or write elsewhere"
            )

    def _start(self, name: str) -> None:
        """Begin anew where nothing is but what a killed run left before its plan was there."""
        if self.path.exists() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise InputError(f"{self.path} is in the way and is no unfinished run: remove it or write elsewhere")
        files.discard(self.path, self.target)
        self.path.mkdir()
        files.write_bytes(self.path / PLAN, json.dumps({"name": name}).encode())

    def remove(self) -> None:
        """Delete the folder."""
        files.discard(self.path, self.target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()
