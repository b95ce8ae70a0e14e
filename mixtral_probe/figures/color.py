"""Colours that stay apart on white, on near-black and under the three kinds of colour blindness."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Scale = list[tuple[float, str]]

PALETTE = ("#2172b0", "#f3a209", "#29a587", "#c80e04", "#41c2d7", "#d17620", "#ba6efa", "#626262")
"""Eight colours. Their smallest OKLab distance, seen normally or as protanope, deuteranope or tritanope (Machado
2009), is 0.12, where the Okabe-Ito palette has 0.08; each has a contrast of at least 2 on white and 2.9 on #0e1117."""

SERIES = ("#2172b0", "#f3a209", "#29a587", "#ba6efa", "#626262")
"""Five of them for series drawn side by side: ranks, or metrics of one expert."""

_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colors: ArrayLike) -> Floats:
    """[..., 3] lightness in [0, 1] and two colour axes of hexadecimal colours (Ottosson 2020)."""
    texts = np.atleast_1d(np.asarray(colors, dtype=str))
    encoded = np.array([[int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)] for text in texts])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _LMS.T) @ _LAB.T


def hexadecimal(lab: ArrayLike) -> list[str]:
    """Return colours [n, 3] of OKLab as `#rrggbb`; one outside of what screens display loses chroma until it fits."""
    return [_in_gamut(np.asarray(color, np.float64)) for color in np.atleast_2d(lab)]


def _in_gamut(lab: Floats) -> str:
    for chroma in np.linspace(1, 0, 26):
        linear = (np.linalg.inv(_LAB) @ (lab * [1, chroma, chroma])) ** 3 @ np.linalg.inv(_LMS).T
        if linear.min() >= -1e-3 and linear.max() <= 1 + 1e-3:
            break
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * part):02x}" for part in encoded)


def expert_colors(num_experts: int) -> list[str]:
    """[E] one `#rrggbb` per expert, the same in every figure and in the token view.

    Up to 8 experts have `PALETTE`. More repeat it in tiers of eight, from dark to light, so that experts 3 and 11 share
    a hue and differ in lightness; beyond two tiers a colour alone no longer names an expert, its number has to.
    """
    if num_experts <= len(PALETTE):
        return list(PALETTE[:num_experts])
    tiers = -(-num_experts // len(PALETTE))
    base = oklab(PALETTE)
    colors = [color for tier in range(tiers) for color in hexadecimal(_tier(base, tier, tiers))]
    return colors[:num_experts]


def _tier(base: Floats, tier: int, tiers: int) -> Floats:
    """[8, 3] the palette moved to one of `tiers` steps of lightness, spread over 0.38 to 0.84."""
    lightness = np.interp(tier, [0, tiers - 1], [0.46, 0.76]) + (base[:, 0] - base[:, 0].mean()) * 0.5
    return np.column_stack([lightness, base[:, 1:]])


def layer_colors(num_layers: int) -> list[str]:
    """[L] one `#rrggbb` per layer, from dark blue to light green, seen on white and on near-black alike."""
    return [color for _, color in _ramp([(0.48, 0.14, 285), (0.6, 0.11, 220), (0.78, 0.15, 135)], num_layers)]


def _ramp(stops: Sequence[tuple[float, float, float]], count: int = 13) -> Scale:
    """Return a plotly colour scale through stops (lightness, chroma, hue in degrees), evenly spaced in OKLCH."""
    at = np.linspace(0, 1, count)
    light, chroma, hue = (np.interp(at, np.linspace(0, 1, len(stops)), part) for part in zip(*stops, strict=True))
    angle = np.radians(hue)
    colors = hexadecimal(np.column_stack([light, chroma * np.cos(angle), chroma * np.sin(angle)]))
    return [(float(place), color) for place, color in zip(at, colors, strict=True)]


def _fast(scale: Scale) -> Scale:
    """Return the scale with its colours crowded towards 0: place p has the colour of the square root of p."""
    return [(place**2, color) for place, color in scale]


def scales(dark: bool) -> dict[str, Scale]:
    """Return the colour scales by role; the low end, or the middle of `diverging`, is close to the page.

    `sequential` has even steps of lightness; `root` is the same for values crowded near 0 (attention), its bar still
    linear in the value; `root8` is `sequential` with 0 itself clear; `diverging` goes from blue over the page's colour
    to orange, apart under any colour blindness.
    """
    low, high, page = (0.24, 0.95, 0.27) if dark else (0.965, 0.27, 0.965)
    tip = 0.76 if dark else 0.47
    sequential = _ramp([(low, 0.012, 235), ((low + high) / 2, 0.12, 245), (high, 0.06, 215 if dark else 262)])
    blue = [(tip, 0.135, 250), ((tip + page) / 2, 0.09, 245), (page, 0.0, 240)]
    orange = [(page, 0.0, 55), ((tip + page) / 2, 0.1, 58), (tip + 0.02, 0.14, 52)]
    half = _ramp(blue, 7), _ramp(orange, 7)
    diverging = [(place / 2, color) for place, color in half[0]]
    diverging += [(0.5 + place / 2, color) for place, color in half[1][1:]]
    clear = [(0.0, "rgba(0,0,0,0)"), (1 / 512, sequential[0][1]), *sequential[1:]]
    return {"sequential": sequential, "root8": clear, "root": _fast(sequential), "diverging": diverging}
