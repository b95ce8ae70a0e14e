"""Reading a file that holds one JSON object, with one sentence for whatever is wrong with it."""

import json
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError
from mixtral_probe.reading import MIB, one_sentence, read_bounded

MOST_BYTES = 64 * MIB
"""Of a file that is read: the index of the largest models has less than one hundredth of it."""


def read_json_object(path: Path, remedy: str = "correct it or download it again") -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: of the file.
        remedy: what to do about a broken file, the end of the sentence.

    Raises:
        FileNotFoundError: there is no such file; the caller knows what it is for.
        InputError: it cannot be read, is larger than ``MOST_BYTES``, or is no JSON object.
    """
    try:
        text = read_bounded(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"{path.name} must be a file that can be read, got {why!r} for {path}; {remedy}") from None
    with one_sentence(f"{path.name} must be valid JSON", path, remedy):
        content = json.loads(text.decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold one JSON object, got {path} with a {type(content).__name__}; {remedy}")
    return content
