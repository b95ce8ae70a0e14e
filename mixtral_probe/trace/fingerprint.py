"""A hash of the content of arrays and texts."""

import hashlib
import json
from typing import Any

import numpy as np


def fingerprint(*parts: Any) -> str:
    """Return the SHA-256, 64 hexadecimal digits, of arrays, texts, bytes and JSON values, in this order.

    An array counts with its dtype and shape; a text may hold lone surrogates; the order of a dict's keys
    does not matter.
    """
    digest = hashlib.sha256()
    for part in parts:
        kind, content = _content(part)
        digest.update(f"{kind} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _content(part: Any) -> tuple[str, bytes | memoryview]:
    if isinstance(part, np.ndarray):
        if part.dtype == object:
            raise TypeError("an array of objects has no fixed bytes: pass a list of texts instead")
        return f"array {part.dtype.str} {part.shape}", np.ascontiguousarray(part).tobytes()
    if isinstance(part, bytes):
        return "bytes", part
    return "json", json.dumps(part, sort_keys=True).encode()
