"""Colours: apart under colour blindness, legible on both pages, and the same figure for both."""

import json

import numpy as np
import pytest

from mixtral_probe import figures
from mixtral_probe.figures.color import PALETTE, hexadecimal, oklab
from tests.support.figures import tables_of
from tests.support.routing import random_trace

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colors):
    encoded = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def seen(colors, matrix):
    rgb = np.clip(linear(colors) @ np.array(matrix).T, 0, 1)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return oklab(["#" + "".join(f"{round(255 * part):02x}" for part in color) for color in encoded])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_eight_experts_stay_apart_however_seen(kind):
    lab = seen(figures.expert_colors(8), BLINDNESS[kind])
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(8)
    assert distance.min() > 0.1  # the Okabe-Ito palette has 0.076


def test_experts_are_seen_on_white_and_on_near_black():
    light = linear(PALETTE) @ [0.2126, 0.7152, 0.0722]
    assert (1.05 / (light + 0.05)).min() >= 2
    assert ((light + 0.05) / (0.0056 + 0.05)).min() >= 2.9


@pytest.mark.parametrize("experts", [1, 8, 12, 16, 64])
def test_every_expert_has_its_own_colour(experts):
    colors = figures.expert_colors(experts)
    assert len(colors) == len(set(colors)) == experts
    assert all(len(color) == 7 and int(color[1:], 16) >= 0 for color in colors)


def test_colour_spaces_agree_with_published_values_and_back():
    # White is L = 1 without chroma; pure sRGB red is (0.62796, 0.22486, 0.12585) (Ottosson 2020; CSS Color 4).
    np.testing.assert_allclose(oklab(["#ffffff", "#ff0000"]), [[1, 0, 0], [0.62796, 0.22486, 0.12585]], atol=1e-4)
    assert hexadecimal(oklab(PALETTE)) == list(PALETTE)


@pytest.mark.parametrize("dark", [False, True])
def test_scales_have_even_steps_of_lightness(dark):
    scale = figures.scales(dark)
    light = oklab([color for _, color in scale["sequential"]])[:, 0]
    steps = np.diff(light)
    assert np.ptp(steps) < 0.012
    assert (np.sign(steps) == (1 if dark else -1)).all()
    middle = oklab([color for place, color in scale["diverging"] if place == 0.5])[0]
    assert np.hypot(*middle[1:]) < 0.01
    for role in scale.values():
        places = [place for place, _ in role]
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, 1)


def test_a_figure_changes_page_without_changing_what_it_shows():
    table = tables_of(random_trace(0))["expert_load"]
    light = figures.expert_load_map(table)
    dark = figures.themed(light, dark=True)
    assert light.layout.template.layout.font.color != dark.layout.template.layout.font.color
    assert light.layout.coloraxis.colorscale != dark.layout.coloraxis.colorscale
    np.testing.assert_array_equal(light.data[0].z, dark.data[0].z)
    assert json.loads(figures.themed(dark).to_json(engine="json")) == json.loads(light.to_json(engine="json"))
    assert light.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
