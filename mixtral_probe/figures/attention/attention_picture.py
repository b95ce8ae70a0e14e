"""A map as a picture with a dot for every weight: `attention_picture`."""

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.figures.attention.attention_map import root_bytes
from mixtral_probe.figures.color import scales


def attention_picture(weights: NDArray[np.floating], *, dark: bool = False) -> NDArray[np.uint8]:
    """[S, M, 3] a map as a picture with a dot for every weight, in the colours of the other maps (root of the weight).

    Args:
        weights: [S, M] in [0, 1].
        dark: for a dark page.
    """
    stops = scales(dark)["sequential"]
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for _, color in stops], float)
    places = [place for place, _ in stops]
    ramp = np.stack([np.interp(np.linspace(0, 1, 256), places, colors[:, part]) for part in range(3)], axis=-1)
    return np.rint(ramp).astype(np.uint8)[root_bytes(weights)]
