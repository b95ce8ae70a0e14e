"""`mixtral-probe info`: the facts of a model folder or a trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.facts import folder_facts
from mixtral_probe.cli.shell import print_json, printable

_A_LINE_EACH = ("model", "tokenizer", "corpus", "software")


def info(path: options.AnyPath, as_json: options.AsJson = False) -> None:
    """Print the facts of a model folder or a trace: sizes, layers and experts, files, documents, where it comes from.

    \b
    Examples:
      mixtral-probe info mini
      mixtral-probe info corpus.trace
      mixtral-probe info ~/mixtral-8x7b --json
    """
    facts = folder_facts(path if path == "mini" else Path(path).expanduser())
    if as_json:
        print_json(facts)
        return
    lines = dict(_flat(facts))
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        typer.echo(printable(f"{name:{width}}  {value}"))


def _flat(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of each line; each fact of a model or the software has a line."""
    for name, value in facts.items():
        if name in _A_LINE_EACH and isinstance(value, dict):
            yield from ((f"{name} {key}".replace("_", " "), _as_words(key, entry)) for key, entry in value.items())
        else:
            yield name.replace("_", " "), _as_words(name, value)


def _as_words(name: str, value: Any) -> str:
    if name == "bytes":
        return words.size(value)
    if name == "files":
        return ", ".join(f"{file} {words.size(count)}" for file, count in value.items())
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_words(key, entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_as_words("", entry) for entry in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, ""):
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else str(value)
