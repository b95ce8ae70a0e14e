"""Where the data that travels with the project lies: the embedded model, the corpus, the reference numbers."""

from pathlib import Path

from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path

_PACKAGE = Path(__file__).parent
_ROOTS = (_PACKAGE / "_bundled" / "data", _PACKAGE.parent / "data")


def data_path(name: str) -> Path:
    """The path of ``data/<name>``: inside an installed wheel, else in the checkout.

    Raises:
        InputError: it is in neither place.
    """
    for root in _ROOTS:
        if (root / name).exists():
            return root / name
    raise InputError(f"the bundled data {name!r} is not part of this installation; install from the full source tree")


def model_path(name: str | Path) -> Path:
    """The path of a model's folder; "mini" is that of the embedded model.

    Raises:
        InputError: it is no path.
    """
    return data_path("mixtral-mini") if str(name) == "mini" else checked_path(name)
