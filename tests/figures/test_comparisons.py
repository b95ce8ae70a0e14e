"""Figures of agreement and saturation hold the values of their tables."""

import numpy as np
import pytest

from mixtral_probe import figures, tables
from mixtral_probe.errors import InputError
from tests.support.figures import drawn
from tests.support.routing import pick, random_trace


@pytest.fixture(scope="module")
def agreement():
    return tables.agreement(random_trace(0), reseeded(1), by="domain")


def reseeded(seed):
    """Another routing of the same texts."""
    other = random_trace(seed)
    return type(other).from_arrays(
        expert_ids=other.expert_ids[:, np.random.default_rng(0).permutation(200)],
        num_experts=8,
        document=random_trace(0).tokens["document"].to_numpy(),
        documents=random_trace(0).documents[["id", "domain"]].to_dict("records"),
    )


def test_agreement_by_layer(agreement):
    figure = figures.agreement(agreement, group="law")
    names = ("set_overlap", "first_agreement", "same_set")
    lines = [trace for trace in figure.data if trace.name == "law"]
    for metric, line in zip(names, lines, strict=True):
        own = pick(agreement, metric=metric, group="law")
        own = own[own["layer"].notna()]
        np.testing.assert_array_equal(line.y, drawn(own))
        np.testing.assert_allclose(line.y + line.error_y.array, own["high"])
    nulls = {float(trace.y[0]) for trace in figure.data if trace.line.dash == "dot"}
    assert nulls == {1 / 4, 1 / 8, 1 / 28}


def test_experts_that_gained_and_lost(agreement):
    figure = figures.agreement_experts(agreement)
    own = pick(agreement, metric="share_change", group="all")
    np.testing.assert_array_equal(figure.data[0].z, drawn(own).reshape(3, 8))
    assert list(map(tuple, figure.data[1].customdata[:2])) == [(0, 0), (0, 1)]
    axis = figure.layout.coloraxis
    assert axis.cmin == -axis.cmax
    with pytest.raises(InputError, match=r"group must be one the table has .* got 'art'"):
        figures.agreement_experts(agreement, group="art")


def test_saturation_has_a_line_for_every_layer():
    table = tables.saturation({0: reseeded(1), 10: reseeded(2), 30: random_trace(0)})
    figure = figures.saturation(table, metric="saturation_first")
    null, *lines = figure.data
    assert set(null.y) == {1 / 8}
    assert [line.name for line in lines] == ["layer 0", "layer 1", "layer 2"]
    for layer, line in enumerate(lines):
        assert list(line.x) == [0, 10, 30]
        np.testing.assert_array_equal(line.y, drawn(pick(table, metric="saturation_first", layer=layer)))
        assert line.y[-1] == 1
    assert len({line.line.color for line in lines}) == 3


@pytest.mark.parametrize("layers", [1, 2, 8, 32])
def test_layers_have_colours_that_differ(layers):
    from mixtral_probe.figures.color import layer_colors

    colors = layer_colors(layers)
    assert len(set(colors)) == layers
    assert all(len(color) == 7 and color.startswith("#") for color in colors)
