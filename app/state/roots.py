"""The folders that may be opened from the page: those named when the dashboard was started, and what lies below."""

import sys
from collections.abc import Iterator
from pathlib import Path

from app.state import settings
from mixtral_probe import InputError

OPTION = "--allow="


def arguments() -> list[str]:
    """What came after `--`; under anything but `streamlit run` the arguments are somebody else's."""
    return sys.argv[1:] if Path(sys.argv[0]).resolve() == settings.ENTRY.resolve() else []


def folders() -> list[Path]:
    """The folders, without links in their paths."""
    named = [text.removeprefix(OPTION) for text in arguments() if text.startswith(OPTION)]
    return [Path(name).expanduser().resolve() for name in named]


def resolve(text: str) -> Path:
    """A typed path, if it lies under an allowed folder; one that is not absolute is looked for in each of them.

    Raises:
        InputError: it lies elsewhere, also by way of links, or nothing is there.
    """
    roots = folders()
    if not roots:
        raise InputError(
            "paths can be opened only below the folders named with --allow, but the dashboard was started without; "
            "start it with `mixtral-probe dashboard --allow DIR`"
        )
    typed = Path(text.strip()).expanduser()
    found = [path for root in roots if (path := (root / typed).resolve()).is_relative_to(root)]
    there = next((path for path in found if path.exists()), None)
    if there is None:
        names = ", ".join(map(str, roots))
        raise InputError(f"a path must lie below {names}, but there {text.strip()!r} is not")
    return there


def model_folders() -> list[Path]:
    """Folders below the allowed ones that hold a model, not deeper than three levels; at most so many."""
    found = (folder for root in folders() for folder in _folders(root, depth=3) if _is_model(folder))
    return [folder for folder, _ in zip(found, range(settings.MODELS_LISTED), strict=False)]


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth:
        try:
            below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        except OSError:
            return
        for path in below:
            yield from _folders(path, depth - 1)


def _is_model(folder: Path) -> bool:
    config = any((folder / name).is_file() for name in ("config.json", "params.json"))
    return config and (any(folder.glob("*.safetensors")) or any(folder.glob("*.pth")))
