"""The defaults of generation that a model folder has: its ``generation_config.json``."""

from pathlib import Path
from typing import Any

from mixtral_probe.json_files import read_json_object

GENERATION_CONFIG = "generation_config.json"


def read_generation_config(folder: Path) -> dict[str, Any] | None:
    """Return the fields of ``generation_config.json``; None where the folder has none.

    As in transformers, a folder that has the file takes every default of generation from it, stop ids included, and
    one without it takes them from ``config.json``.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        return read_json_object(folder / GENERATION_CONFIG, "correct it, or remove it to use config.json")
    except FileNotFoundError:
        return None
