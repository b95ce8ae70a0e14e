"""What verbs that run a model share: the text they are given, and the model."""

from pathlib import Path
from typing import TYPE_CHECKING

from mixtral_probe.errors import InputError

if TYPE_CHECKING:
    from mixtral_probe.corpus import Source
    from mixtral_probe.probe import Probe


def chosen_source(text: str | None, file: Path | None, corpus: str | None) -> "Source":
    """What `Probe` methods take as source.

    Raises:
        InputError: not exactly one was given, or there is nothing where it points.
    """
    given = {"--text": text, "--file": file, "--corpus": corpus}
    named = [option for option, value in given.items() if value is not None]
    if len(named) != 1:
        came = " and ".join(named) or "none"
        raise InputError(f"exactly one of {', '.join(given)} says what to run, but {came} came")
    if text is not None:
        return [{"id": "text", "text": text}]  # a list: a text alone could be the name of a file
    if file is not None:
        return _one_file(file.expanduser())
    return "bundled" if corpus == "bundled" else _existing(Path(str(corpus)).expanduser(), "--corpus")


def opened_probe(model: str, device: str, dtype: str | None) -> "Probe":
    """The model of `--model`, `--device` and `--dtype`."""
    from mixtral_probe.probe import Probe

    return Probe.from_pretrained(model if model == "mini" else Path(model), dtype, device)


def _one_file(file: Path) -> "Source":
    """Any text file is one document, whatever its ending; rows stay rows."""
    if file.suffix in (".txt", ".jsonl", ".parquet") or not file.is_file():
        return _existing(file, "--file")
    try:
        return [{"id": file.name, "text": file.read_bytes().decode("utf-8-sig")}]
    except UnicodeDecodeError as error:
        raise InputError(f"--file must be UTF-8 text, but {file} is not at byte {error.start}") from None


def _existing(path: Path, option: str) -> Path:
    if not path.exists() or (option == "--file" and path.is_dir()):
        raise InputError(
            f"{option} must name {'a file' if option == '--file' else 'a folder or file'}, but {path} is none"
        )
    return path
