"""The folders whose traces and models the page may open: those named with --allow at the start, and all below them."""

import sys
from collections.abc import Iterator
from pathlib import Path

from app.state import settings
from mixtral_probe import InputError
from mixtral_probe.paths import checked_path

OPTION = "--allow="
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "consolidated*.pt", "*.pth")


def arguments() -> list[str]:
    """Return the arguments after `--`; none in another program than `streamlit run`."""
    return sys.argv[1:] if Path(sys.argv[0]).resolve() == settings.ENTRY.resolve() else []


def folders() -> list[Path]:
    """List the allowed folders, with links in their paths resolved."""
    named = [text.removeprefix(OPTION) for text in arguments() if text.startswith(OPTION)]
    return [Path(name).expanduser().resolve() for name in named]


def resolve(text: str) -> Path:
    """Find a typed path below the allowed folders; one that is not absolute is looked for in each of them.

    Raises:
        InputError: it is not below an allowed folder, with links resolved, or does not exist.
    """
    roots = folders()
    if not roots:
        raise InputError(
            "a path must lie below a folder named with --allow, got no such folder; "
            "start the dashboard with `mixtral-probe dashboard --allow DIR`"
        )
    typed = checked_path(text.strip())
    candidates = [path for root in roots if (path := checked_path(root / typed).resolve()).is_relative_to(root)]
    existing = next((path for path in candidates if path.exists()), None)
    if existing is None:
        names = ", ".join(map(str, roots))
        raise InputError(f"a path must lie below {names}, got {text.strip()!r}; name one that exists there")
    return existing


def model_folders() -> list[Path]:
    """List folders with a model below the allowed ones, not deeper than three levels, at most `MODELS_LISTED`."""
    models = (folder for root in folders() for folder in _folders(root, depth=3) if _is_model(folder))
    return [folder for folder, _ in zip(models, range(settings.MODELS_LISTED), strict=False)]


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
    return config and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)
