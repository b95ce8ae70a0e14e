"""Reading a file that holds one JSON object, with one sentence for whatever is wrong with it."""

import json
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError
from mixtral_probe.paths import refuse_pointer

MOST_BYTES = 64 * 2**20
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
        content = json.loads(_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path.name} must be a file that can be read, got {reason!r} for {path}; {remedy}") from None
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path.name} must be valid JSON, got {path}, nested too deep; {remedy}") from None
    except ValueError as error:
        raise InputError(f"{path.name} must be valid JSON, got {path} with an error: {error}; {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold one JSON object, got {path} with a {type(content).__name__}; {remedy}")
    return content


def _text(path: Path) -> str:
    refuse_pointer(path)
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES / 2**20:.0f} MiB")
    return content.decode("utf-8-sig")
