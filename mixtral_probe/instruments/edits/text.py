"""Edits as text on a command line: `mask_expert expert=3 layer=2..4`."""

import re
import shlex
from typing import Any

from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.edit import Edit
from mixtral_probe.instruments.edits.file import edit_of, fields_of

NUMBERS = ("layer", "position", "token_id", "expert", "head")
"""Fields that take one whole number or several."""
MOST_NUMBERS = 100_000
_RANGE = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?")
_LABEL = "document."


def parse(text: str, *, replay: bool = True) -> Edit:
    """Read an edit from text: its name in files, then its fields.

    Whole numbers are written `3`, `0,3` or `2..4`, the ends included; a condition on a label as `document.domain=code`
    or `document.domain=code,prose`; a value with spaces in quotes. Without `replay`, an edit that names a trace, which
    would be opened, is refused.

    >>> parse("mask_expert expert=3 layer=2..4")
    MaskExpert(layer=(2, 3, 4), expert=(3,))

    Raises:
        InputError: the text is not an edit.
    """
    try:
        name, *words = shlex.split(text)
    except ValueError:
        raise InputError(f"an edit must begin with its name and close its quotes, got {text!r}") from None
    fields: dict[str, Any] = {"edit": name}
    labels: dict[str, tuple[str, ...]] = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not field or not equals or not value:
            raise InputError(f"an edit must be its name, then field=value such as expert=3, got {word!r}")
        if field in fields or field.removeprefix(_LABEL) in labels:
            raise InputError(f"each field of an edit must be given once, got {field!r} twice")
        if field.startswith(_LABEL):
            labels[field.removeprefix(_LABEL)] = tuple(value.split(","))
        else:
            fields[field] = _value(field, value)
    return edit_of(fields | ({"document": labels} if labels else {}), replay=replay)


def spell(edit: Edit) -> str:
    """Write an edit as text, which `parse` reads.

    >>> spell(parse("mask_expert layer=2..3 expert=3"))
    'mask_expert layer=2,3 expert=3'

    Raises:
        InputError: the edit has a trace or function without a name, or a label with a comma.
    """
    words = []
    for field, value in fields_of(edit).items():
        if field == "document":
            words += [f"{_LABEL}{label}={_listed(label, values)}" for label, values in value.items()]
        elif field != "edit":
            words.append(f"{field}={_listed(field, value) if isinstance(value, list) else value}")
    return shlex.join([edit.edit, *words])


def _listed(field: str, values: list[Any]) -> str:
    texts = [str(value) for value in values]
    if any("," in text for text in texts):
        raise InputError(f"values typed as one of several must have no comma, got {texts!r} for {field}")
    return ",".join(texts)


def _value(field: str, value: str) -> Any:
    """Return the value of a field; the edit itself reads fractions and booleans."""
    if field == "mean":
        return tuple(value.split(","))
    return value if field not in NUMBERS or value == "all" else _numbers(field, value)


def _numbers(field: str, value: str) -> tuple[int, ...]:
    """Return the numbers in their order, on which some edits depend."""
    numbers: list[int] = []
    for part in value.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise InputError(f"{field} must be numbers such as 3, 0,3 or 2..4, got {value!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or len(numbers) + last - first >= MOST_NUMBERS:
            raise InputError(f"a range of {field} must rise and hold at most {MOST_NUMBERS:,} numbers, got {part!r}")
        numbers += range(first, last + 1)
    return tuple(numbers)
