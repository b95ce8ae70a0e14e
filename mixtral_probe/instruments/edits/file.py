"""Edits as a small JSON file with its format and version."""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_bytes
from mixtral_probe.instruments.edits.choices import ForceExperts, RandomRouting, SwapExperts, TopK
from mixtral_probe.instruments.edits.edit import Edit
from mixtral_probe.instruments.edits.logits import BiasRouter, MaskExpert, NoiseRouter, Temperature
from mixtral_probe.instruments.edits.outputs import MaskHead, MeanExpert, ScaleHead, ZeroExpert
from mixtral_probe.instruments.edits.replay import ReplayRouting
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import MIB, one_sentence, read_bounded

FORMAT: Literal["mixtral-probe edits"] = "mixtral-probe edits"
EDITS_VERSION = 1
MOST_BYTES = 16 * MIB
"""Of a file."""
KINDS: dict[str, type[Edit]] = {
    kind.model_fields["edit"].default: kind
    for kind in (
        MaskExpert, ZeroExpert, MeanExpert, ForceExperts, BiasRouter, Temperature, TopK, SwapExperts, ReplayRouting,
        RandomRouting, NoiseRouter, MaskHead, ScaleHead,
    )
}  # fmt: skip
"""Classes of edits by their name in files."""


class _EditsFile(BaseModel):
    """The file: its format, its version, and one object for each edit."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["mixtral-probe edits"] = FORMAT
    schema_version: Annotated[int, Field(ge=1)] = EDITS_VERSION
    edits: tuple[dict[str, Any], ...]


def to_json(edits: Sequence[Edit]) -> str:
    """Write edits as text; defaults are left out.

    Raises:
        InputError: one of them cannot be saved.
    """
    return _EditsFile(edits=tuple(fields_of(edit) for edit in edits)).model_dump_json(indent=1) + "\n"


def from_json(text: str, *, replay: bool = True) -> tuple[Edit, ...]:
    """Read edits from a text of ``to_json``.

    Args:
        text: JSON.
        replay: whether it may name a trace, which is then opened; False for text from an unknown source.

    Raises:
        InputError: the text is of another format, has a newer version, or an edit breaks a rule.
    """
    try:
        content = _EditsFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise InputError(
            f"edits must be JSON of the format {FORMAT!r}, got an error at {where}: {first['msg']}"
        ) from None
    if content.schema_version > EDITS_VERSION:
        raise InputError(
            f"edits must be of schema version {EDITS_VERSION} or earlier, got {content.schema_version}; "
            "install a newer mixtral-probe"
        )
    return tuple(edit_of(fields, replay=replay) for fields in content.edits)


def save(edits: Sequence[Edit], path: str | PathLike[str]) -> Path:
    """Write edits to a small JSON file, whole or not at all, and return its path."""
    return write_bytes(path, to_json(edits).encode())


def load(path: str | PathLike[str]) -> tuple[Edit, ...]:
    """Read a file of ``save``.

    Raises:
        InputError: the file does not exist, or is not one of ``save``.
    """
    try:
        content = read_bounded(checked_path(path), MOST_BYTES)
    except FileNotFoundError:
        raise InputError(f"edits are read from a file, got no file at {path}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"edits are read from a file, got {reason!r} for {path}; name another") from None
    try:
        return from_json(content.decode())
    except UnicodeDecodeError:
        raise InputError(f"edits are read from a JSON file, got {path}, which is not text") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def fields_of(edit: Edit) -> dict[str, Any]:
    """Return an edit's name and fields as in a file.

    Raises:
        InputError: it cannot be saved.
    """
    edit.require_savable()
    return {"edit": edit.edit, **json.loads(edit.model_dump_json(exclude_defaults=True)), "layer": _layer(edit)}


def _layer(edit: Edit) -> Any:
    return edit.layer if edit.layer == "all" else list(edit.layer)


def edit_of(fields: Mapping[str, Any], *, replay: bool = True) -> Edit:
    """Return the edit of an object of a file; ``replay`` as in ``from_json``.

    Raises:
        InputError: the edit is unknown, or a field breaks a rule.
    """
    kind = KINDS.get(str(fields.get("edit")))
    if kind is None:
        raise InputError(f"an edit must be one of {', '.join(KINDS)}, got {fields.get('edit')!r}")
    if kind is ReplayRouting and not replay:
        raise InputError("replay_routing opens a trace on disk, which is not done here: use the command line or Python")
    with one_sentence("an edit must have valid fields", repr(fields), "correct them"):
        return kind(**{name: value for name, value in fields.items() if name != "edit"})
