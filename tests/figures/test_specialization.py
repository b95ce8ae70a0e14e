"""Figures of specialization and structure hold the values of their tables."""

import numpy as np
import pytest

from mixtral_probe import figures, tables
from mixtral_probe.errors import InputError
from mixtral_probe.report.drawings import draw
from mixtral_probe.stats import RoutingStats
from tests.support.document_tastes import tasting_trace
from tests.support.figures import drawn
from tests.support.routing import pick, random_trace


@pytest.fixture(scope="module")
def stats():
    ids = np.random.default_rng(0).integers(0, 20, 400)
    trace = random_trace(1, layers=3, tokens=400, token_ids=ids, predicted_id=ids[::-1], piece=[f"<i>{x}" for x in ids])
    return RoutingStats.from_trace(trace, by="domain")


def test_vocabulary_has_its_null_line(stats):
    table = tables.vocabulary_specialization(stats)
    figure = figures.vocabulary_specialization(table, min_count=10, group="law")
    own = pick(table, target="input", min_count=10, weighting="type", group="law", expert=None)
    nulls = [trace.y for trace in figure.data if trace.line.dash == "dot"]
    lines = [trace.y for trace in figure.data if trace.name == "law"]
    for number, metric in enumerate(("vocabulary_specialization", "vocabulary_specialization_crossval")):
        np.testing.assert_array_equal(nulls[number], pick(own, metric=metric)["null"])
        np.testing.assert_array_equal(lines[number], drawn(pick(own, metric=metric)))
    with pytest.raises(InputError, match=r"target must be one the table has \(input, next, predicted\), got 'x'"):
        figures.vocabulary_specialization(table, target="x")


def test_tokens_of_an_expert_are_labels_and_escaped(stats):
    table = tables.expert_tokens(stats)
    own = pick(table, layer=1, expert=2, group="all", metric="token_lift")
    figure = figures.expert_tokens(table, layer=1, expert=2)
    np.testing.assert_array_equal(figure.data[0].x, drawn(own)[own["value"].notna()])
    assert all(text.startswith("&lt;i&gt;") for text in figure.layout.yaxis.ticktext)


def test_finds_among_the_tokens_of_an_expert_are_in_full_colour():
    trace = tasting_trace(np.random.default_rng(0), (12,), (120,), words=12, word=1.0, base=0.0)
    table = tables.expert_tokens(RoutingStats.from_trace(trace))
    rates = pick(table, layer=1, expert=2, metric="token_false_discovery")["value"].to_numpy()
    figure = figures.expert_tokens(table, layer=1, expert=2)
    np.testing.assert_array_equal(figure.data[0].marker.opacity == 1, rates < 0.05)
    assert 0 < (rates < 0.05).sum() < len(rates)
    assert "full colour: false discovery rate below 5%" in figure.layout.title.subtitle.text
    text = tables.METRICS["token_false_discovery"].text(rates[0])
    assert figure.data[0].hovertext[0].endswith(f"false discovery rate: {text}")


def test_distances_between_groups_are_symmetric(stats):
    table = tables.group_divergence(stats)
    z = figures.group_divergence(table, layer=2).data[0].z
    np.testing.assert_array_equal(z, z.T)
    np.testing.assert_array_equal(z[np.triu_indices(3, 1)], drawn(pick(table, layer=2, metric="js_divergence_bits")))


def test_maps_of_domains_and_pairs(stats):
    table = tables.domain_specialization(stats)
    own = pick(table, layer=1, metric="frequency_difference")
    np.testing.assert_array_equal(figures.domain_specialization(table, layer=1).data[0].z.ravel(), drawn(own))
    table = tables.coactivation(stats)
    z = figures.coactivation(table, layer=1).data[0].z
    assert np.isnan(np.diag(z)).all()
    own = pick(table, layer=1, group="all", metric="coactivation_preference")
    np.testing.assert_array_equal(z[~np.eye(8, dtype=bool)], drawn(own))


def found_cells(figure, rows, x, y):
    """The cells under dots, and those of rows [keys, value] of rates below 5 %."""
    dots = [trace for trace in figure.data if trace.type == "scatter" and trace.marker.size == 5]
    found = rows[rows["value"] < 0.05]
    return {cell for trace in dots for cell in zip(trace.x, trace.y, strict=True)}, set(
        zip(x(found), y(found), strict=True)
    )


@pytest.fixture(scope="module")
def topics():
    trace = tasting_trace(np.random.default_rng(0), (6, 6, 6), (40, 40, 40), layers=2, topic=0.6)
    return RoutingStats.from_trace(trace, by="domain")


def test_dots_are_on_what_is_no_chance_find(topics):
    table = tables.domain_specialization(topics)
    rates, place = pick(table, layer=1, metric="shuffle_false_discovery"), {name: i for i, name in enumerate("abc")}
    figure = figures.domain_specialization(table, layer=1)
    drawn_cells, found = found_cells(figure, rates, lambda rows: rows["expert"], lambda rows: rows["group"].map(place))
    assert drawn_cells == found
    assert 0 < len(found) < len(rates)
    assert "dots: false discovery rate below 5%" in figure.layout.title.subtitle.text
    texts = [text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext]
    rate = tables.METRICS["shuffle_false_discovery"].text(pick(rates, group="a", expert=0)["value"].item())
    assert texts[0].endswith(f"false discovery rate: {rate}")
    # A click goes to the markers over the cells.
    assert figure.data[1].hoverinfo == "skip"


def test_dots_of_distances_are_on_both_sides_of_the_diagonal(topics):
    table = tables.group_divergence(topics)
    rates, place = pick(table, layer=0, metric="shuffle_false_discovery"), {name: i for i, name in enumerate("abc")}
    one, other = (lambda rows, key=key: rows[key].map(place) for key in ("group", "other_group"))
    cells, found = found_cells(figures.group_divergence(table, layer=0), rates, one, other)
    assert cells == found | {(y, x) for x, y in found}
    assert found


def test_a_table_of_an_older_version_has_no_dots(topics):
    table = tables.domain_specialization(topics)
    older = table[~table["metric"].str.startswith("shuffle_")]
    figure = figures.domain_specialization(older, layer=1)
    assert "dots" not in figure.layout.title.subtitle.text
    assert not found_cells(figure, pick(table, metric="none"), lambda rows: rows["expert"], lambda rows: rows["group"])[
        0
    ]


def test_bands_carry_the_shares_of_tokens(stats):
    table = tables.transitions(stats)
    (sankey,) = figures.transitions(table, steps=2).data
    own = pick(table, group="all", metric="joint_share")
    own = own[drawn(own) > 0]
    np.testing.assert_array_equal(sankey.link.value, drawn(own))
    np.testing.assert_array_equal(sankey.link.source, own["layer"].to_numpy(int) * 8 + own["expert"].to_numpy(int))
    np.testing.assert_array_equal(
        sankey.link.target, own["other_layer"].to_numpy(int) * 8 + own["other_expert"].to_numpy(int)
    )
    grey = np.array(["128,139,150" in color for color in sankey.link.color])
    np.testing.assert_array_equal(grey, drawn(own) <= own["null"])
    every = figures.transitions(table, steps=2, metric="joint_share_all_choices")
    own = pick(table, group="all", metric="joint_share_all_choices")
    np.testing.assert_array_equal(every.data[0].link.value, drawn(own)[drawn(own) > 0])
    assert "All choices" in every.layout.title.text
    with pytest.raises(InputError, match="got 2"):
        figures.transitions(table, layer=2)


def test_repetition_by_layer_and_by_lag(stats):
    table = tables.repetition(stats)
    by_layer = figures.repetition(table, lag=2)
    own = pick(table, lag=2, group="all", metric="overlap")
    assert any(np.array_equal(trace.y, drawn(own)) for trace in by_layer.data)
    by_lag = figures.repetition_lags(table, layer=1)
    for name in ("overlap", "overlap_shuffled"):
        own = pick(table, layer=1, group="all", metric=name)
        assert any(np.array_equal(trace.y, drawn(own)) for trace in by_lag.data)


def test_information_has_a_panel_for_every_variable(stats):
    table = tables.mutual_information(stats)
    figure = figures.mutual_information(table)
    for variable in ("domain", "domain|token", "position", "token"):
        own = pick(table, variable=variable, group="all", metric="mutual_information_bits_corrected")
        assert any(np.array_equal(trace.y, drawn(own)) for trace in figure.data)


def test_what_the_domain_tells_has_its_shuffles_beside_it():
    rng = np.random.default_rng(2)
    trace = random_trace(2, tokens=3000, documents=8, token_ids=rng.zipf(1.4, 3000) % 50)
    table = tables.domain_information(trace, shuffles=4)
    for metric in ("mutual_information_bits", "shuffle_p_value"):
        figure = figures.domain_information(table, metric=metric)
        titles = [note.text for note in figure.layout.annotations]
        least = table["min_count"].max()
        assert titles == [
            "the domain",
            "the domain, beyond the token",
            f"the domain, beyond the token, types met {least} times",
        ]
        for number, keys in enumerate(({"variable": "domain"}, {"min_count": 1}, {"min_count": least})):
            null, main = figure.data[2 * number : 2 * number + 2]
            own = pick(table, metric=metric, **keys)
            np.testing.assert_array_equal(main.y, drawn(own))
            np.testing.assert_array_equal(null.y, own["null"])
    assert draw(tables.TABLES["domain_information"], table)
