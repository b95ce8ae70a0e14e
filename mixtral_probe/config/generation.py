"""The defaults of generation that a model folder has: its ``generation_config.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_bytes
from mixtral_probe.json_files import read_json_object

GENERATION_CONFIG = "generation_config.json"


class GenerationConfig(dict[str, Any]):
    """Options of generation by their names in transformers, also as attributes; None for one that is not set."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    @classmethod
    def of(cls, given: Any) -> Self:
        """A mapping, or an object with ``to_dict``, such as the ``GenerationConfig`` of transformers; None for none.

        Raises:
            InputError: it is none of these.
        """
        fields = given.to_dict() if hasattr(given, "to_dict") else given
        if fields is not None and not isinstance(fields, Mapping):
            raise InputError(
                f"a generation_config must have options by name, got a {type(given).__name__}; give a single option by "
                "its name, such as max_new_tokens=20"
            )
        return cls(fields or {})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self | None:
        """Read the ``generation_config.json`` of a folder; None where it has none.

        As in transformers, a folder that has the file takes every default of generation from it, stop ids included, and
        one without it takes them from ``config.json``.

        Raises:
            InputError: it is no JSON object.
        """
        try:
            fields = read_json_object(Path(folder) / GENERATION_CONFIG, "correct it, or remove it to use config.json")
        except FileNotFoundError:
            return None
        return cls(fields)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``generation_config.json`` into a folder that exists."""
        write_bytes(Path(folder) / GENERATION_CONFIG, (json.dumps(self.to_dict(), indent=2) + "\n").encode())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a ``generation_config.json``."""
        return {name: value for name, value in self.items() if value is not None}

    to_diff_dict = to_dict
    """For libraries that ask a config of transformers what differs from its defaults: what is set."""
