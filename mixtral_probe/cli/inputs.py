"""The inputs of the verbs that run a model: text and model."""

from pathlib import Path
from typing import TYPE_CHECKING

from mixtral_probe.corpus import MOST_TEXT
from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import read_text

if TYPE_CHECKING:
    from mixtral_probe.corpus import Source
    from mixtral_probe.probe import Probe


def chosen_source(text: str | None, file: Path | None, corpus: str | None) -> "Source":
    """The text, file or corpus as the source that `Probe` methods take.

    Raises:
        InputError: none or several are named, or a path does not exist.
    """
    options = {"--text": text, "--file": file, "--corpus": corpus}
    named = [option for option, value in options.items() if value is not None]
    if len(named) != 1:
        raise InputError(
            f"exactly one of {', '.join(options)} says what to run, got {' and '.join(named) or 'none'}; give one"
        )
    if text is not None:
        return [{"id": "text", "text": text}]  # a list: a text alone could be the name of a file
    if file is not None:
        return _one_file(checked_path(file))
    return "bundled" if corpus == "bundled" else _existing(checked_path(str(corpus)), "--corpus")


def opened_probe(model: str, device: str, dtype: str | None) -> "Probe":
    """The model of `--model`, `--device` and `--dtype`."""
    from mixtral_probe.probe import Probe

    return Probe.from_pretrained(model if model == "mini" else Path(model), dtype, device)


def _one_file(file: Path) -> "Source":
    """Any text file is one document, whatever its ending; rows stay rows."""
    if file.suffix in (".txt", ".jsonl", ".parquet") or not file.exists() or file.is_dir():
        return _existing(file, "--file")
    return [{"id": file.name, "text": read_text(file, MOST_TEXT)}]


def _existing(path: Path, option: str) -> Path:
    if not path.exists() or (option == "--file" and path.is_dir()):
        raise InputError(
            f"{option} must name {'a file' if option == '--file' else 'a folder or file'}, got {path}; name another"
        )
    return path
