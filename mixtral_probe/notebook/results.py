"""The result of an experiment in a notebook: each of its arrays, small ones as a picture or a number."""

import numpy as np

from mixtral_probe.notebook.markup import heat_map, text
from mixtral_probe.trace import Result

_MOST = 64
"""Rows and columns of a picture."""


def arrays(result: Result) -> str:
    """Return every array of a result, one paragraph each."""
    return "\n".join(_array(result, name) for name in result.arrays)


def _array(result: Result, name: str) -> str:
    array, axes = result[name], result.keys[name]
    if array.ndim == 0:
        return f"<p><b>{text(name)}</b> {text(f'{array[()]:.6g}')}</p>"
    shape = " × ".join(f"{axis} {size}" for axis, size in zip(axes, array.shape, strict=True))
    about = f"<p><b>{text(name)}</b> {text(shape)}</p>"
    flat = array.reshape(-1, array.shape[-1]) if array.ndim != 2 else array
    if not flat.size or max(flat.shape) > _MOST:
        return about
    rows = [" ".join(map(str, place)) for place in _places(result, axes[:-1])]
    columns = result.axis(axes[-1])
    hover = [
        [f"{row} · {column}: {value:.6g}" for column, value in zip(columns, line, strict=True)]
        for row, line in zip(rows, flat, strict=True)
    ]
    picture = heat_map(
        flat.astype(float), rows, columns, np.array(hover, dtype=object), axes=(" ".join(axes[:-1]), axes[-1])
    )
    return f"{about}\n{picture}"


def _places(result: Result, axes: tuple[str, ...]) -> list[tuple[object, ...]]:
    """Return the names of the rows of an array once all its axes but the last are one."""
    places: list[tuple[object, ...]] = [()]
    for axis in axes:
        places = [(*place, name) for place in places for name in result.axis(axis)]
    return places
