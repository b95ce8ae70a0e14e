"""A check of merges that the tokenizers library lacks."""

from typing import Any


def require_prefixed_merges(definition: Any) -> None:
    """Raise ValueError where the second part of a merge lacks the prefix that the model cuts off it.

    The library would cut beyond the end of the part, and end the whole process.
    """
    model = definition.get("model") if isinstance(definition, dict) else None
    prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
    merges = model.get("merges") if isinstance(model, dict) else None
    if not isinstance(prefix, str) or not prefix or not isinstance(merges, list):
        return
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        second = parts[-1] if isinstance(parts, list) and parts else ""
        if not isinstance(second, str) or not second.startswith(prefix):
            raise ValueError(f"the second part of a merge must begin with {prefix!r}, got {merge!r}")
