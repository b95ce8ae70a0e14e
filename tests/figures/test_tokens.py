"""Figures of single tokens and of attention maps, and their texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtral_probe import figures
from mixtral_probe.errors import InputError
from mixtral_probe.figures.words import label
from mixtral_probe.tables import token_logits
from tests.support.figures import as_json, drawn, hostile_trace, tables_of


@pytest.fixture(scope="module")
def trace():
    return hostile_trace()


@pytest.fixture(scope="module")
def tables(trace):
    return tables_of(trace)


def attention(size, seed=0):
    weights = np.random.default_rng(seed).gamma(0.3, size=(size, size)) * np.tri(size) + 1e-6 * np.tri(size)
    return weights / weights.sum(1, keepdims=True)


def test_route_marks_the_chosen_experts_of_every_layer(trace, tables):
    row = trace.rows(1).start + 2
    figure = figures.token_route(tables["routes"], document=1, position=2)
    line, choices, margins = figure.data
    np.testing.assert_array_equal(line.x, trace.expert_ids[:, row, 0])
    np.testing.assert_array_equal(choices.x.reshape(3, 2), trace.expert_ids[:, row])
    np.testing.assert_allclose(np.array(choices.customdata[:, 3], float).reshape(3, 2), trace.expert_weights[:, row])
    ranked = np.sort(trace.router_logits[:, row], axis=-1)
    assert margins.text.tolist() == [f"{second - third:.2f}" for second, third in ranked[:, [-2, -3]]]
    with pytest.raises(InputError, match="got document 1, chunk 0, position 5000"):
        figures.token_route(tables["routes"], document=1, position=5000)


def test_a_route_on_its_logits_shows_every_one_of_them(trace, tables):
    row = trace.rows(1).start + 2
    logits = token_logits(trace, document=1, position=2)
    ground, numbers, *_ = figures.token_route(tables["routes"], document=1, position=2, logits=logits).data
    np.testing.assert_allclose(ground.z, trace.router_logits[:, row])
    assert numbers.text.tolist() == [f"{value:.1f}" for value in trace.router_logits[:, row].ravel()]


def test_token_losses_stand_at_their_positions(trace, tables):
    heat = figures.balance_loss_tokens(tables["balance_loss_tokens"], document=2).data[0]
    own = tables["balance_loss_tokens"]
    own = own[own["document"] == 2]
    expected = drawn(own).reshape(-1, 3).T.astype(np.float32)
    np.testing.assert_array_equal(heat.z, expected)
    np.testing.assert_array_equal(heat.x, own["position"].unique())


def test_token_texts_never_become_markup(tables):
    figure = figures.balance_loss_tokens(tables["balance_loss_tokens"], document=0)
    sent = as_json(figure)
    assert "<script" not in str(sent["data"]) + str(sent["layout"]["xaxis"])
    assert "&lt;script&gt;" in str(sent["layout"]["xaxis"]["ticktext"])


@given(st.text(st.characters(codec=None), max_size=20))
def test_labels_are_plain_printable_and_utf8(text):
    shown = label(text)
    shown.encode("utf-8")
    assert not set(shown) & set("<>\n\t\r")


def test_labels_show_quotation_marks_which_plotly_reads_no_entities_of():
    assert label("\"'&") == "\"'&amp;"


def test_labels_show_spaces_and_line_ends():
    assert label(" a\n") == "␣a↵"
    assert label("  ") == "␣␣"
    assert label("\ud800") == "\\ud800"


def test_a_short_map_is_exact_below_the_diagonal_and_empty_above():
    weights = attention(30)
    heat = figures.attention_map(weights, [f"t{i}" for i in range(30)], start=100).data[0]
    below = np.tri(30, dtype=bool)
    np.testing.assert_array_equal(heat.z[below], weights.astype(np.float32)[below])
    assert np.isnan(heat.z[~below]).all()
    np.testing.assert_array_equal(heat.x, np.arange(100, 130))


def test_hover_of_a_map_names_both_tokens_escaped_and_stays_small():
    figure = figures.attention_map(attention(256), ["<script>", " of", "\n", "a long token text"] * 64)
    text = figure.data[0].text
    assert text[1, 0] == "␣of → &lt;script&gt;"
    assert text[0, 1] == ""
    assert len(figure.to_json(engine="json")) < 2e6


def test_repeated_tokens_keep_their_places():
    figure = figures.attention_map(attention(4), ["a", "a", "a", "a"])
    assert figure.layout.xaxis.ticktext == ("a",) * 4
    np.testing.assert_array_equal(figure.layout.xaxis.tickvals, np.arange(4))
    assert figure.layout.xaxis.type is None
    assert as_json(figure)["data"][0]["z"].shape == (4, 4)


@pytest.mark.parametrize(
    ("size", "side", "step"), [(512, 512, 1), (513, 512, 2), (2048, 512, 4), (1000, 512, 2), (7, 3, 3)]
)
def test_pooling_keeps_the_largest_of_every_square(size, side, step):
    weights = attention(size)
    pooled, found = figures.max_pool(weights, side)
    assert found == step
    assert len(pooled) <= side
    for row, column in [(0, 0), (len(pooled) - 1, 0), (len(pooled) // 2, len(pooled) // 3)]:
        square = weights[row * step : (row + 1) * step, column * step : (column + 1) * step]
        assert pooled[row, column] == square.max()


def test_a_map_of_2048_tokens_is_small_and_its_colours_mean_weights():
    weights = attention(2048)
    figure = figures.attention_map(weights, ["<b>"] * 2048)
    assert len(figure.to_json(engine="json")) < 6e5
    heat, axis = figure.data[0], figure.layout.coloraxis
    assert heat.z.dtype == np.uint8
    assert heat.z.shape == (512, 512)
    pooled, _ = figures.max_pool(weights)
    np.testing.assert_allclose((heat.z / 255.0) ** 2, pooled, atol=0.004)
    np.testing.assert_allclose(
        (np.array(axis.colorbar.tickvals) / axis.cmax) ** 2, [float(t) for t in axis.colorbar.ticktext]
    )


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"must have the shape \[S, S\], got \(3, 4\)"):
        figures.attention_map(np.zeros((3, 4)))
    with pytest.raises(InputError, match="of 3 positions needs as many tokens, got 2"):
        figures.attention_map(np.eye(3), ["a", "b"])
