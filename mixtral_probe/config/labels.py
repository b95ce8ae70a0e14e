"""The classes of a classification head: their names, numbers and count, in every spelling of a config."""

from typing import Any

from mixtral_probe.errors import InputError

MOST_LABELS = 1_000_000


def with_labels(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert ``num_labels`` to names and their keys to numbers, which JSON lacks.

    Raises:
        InputError: the number of classes is none, too large, or another than that of the names.
    """
    number, names = fields.pop("num_labels", None), fields.pop("id2label", None)
    if names is None and number is not None:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"config field num_labels must be a positive integer, got {number!r}")
        if number > MOST_LABELS:
            raise InputError(f"config field num_labels must be at most {MOST_LABELS:,}, got {number}")
        names = {label: f"LABEL_{label}" for label in range(number)}
    if isinstance(names, dict):
        names = {int(key) if str(key).isdecimal() else key: name for key, name in names.items()}
        if number not in (None, len(names)):
            raise InputError(f"config field num_labels must be the size of id2label ({len(names)}), got {number}")
        fields.setdefault("label2id", None)
        if fields["label2id"] is None:
            fields["label2id"] = {name: key for key, name in names.items()}
    if names is not None:
        fields["id2label"] = names
    elif fields.get("label2id", 0) is None:
        del fields["label2id"]
    return fields
