"""Figures of balance variants, relevance, skipping and context hold the values of their tables."""

import numpy as np
import pytest

from mixtral_probe import Trace, figures
from mixtral_probe.errors import InputError
from mixtral_probe.figures.load.balance_variants import VARIANTS
from mixtral_probe.figures.load.expert_relevance import RELEVANCE
from mixtral_probe.report.drawings import draw
from mixtral_probe.tables.registry import TABLES, metric_of
from tests.support.figures import drawn, tables_of
from tests.support.routing import pick, random_trace

NAMES = ("balance_variants", "expert_relevance", "skipping_simulation", "context_information")


@pytest.fixture(scope="module")
def trace():
    ids = np.random.default_rng(0).integers(0, 8, 300)
    return random_trace(1, layers=3, tokens=300, documents=6, weights=True, token_ids=ids)


@pytest.fixture(scope="module")
def made(trace):
    return tables_of(trace)


def parts(figure, name):
    return [part for part in figure.data if part.name == name]


def same_interval(part, own):
    np.testing.assert_array_equal(part.y, drawn(own))
    np.testing.assert_allclose(part.y + part.error_y.array, own["high"], rtol=1e-12)
    np.testing.assert_allclose(part.y - part.error_y.arrayminus, own["low"], rtol=1e-12)


def test_every_variant_has_its_null_and_its_scope_and_a_loss_its_value_at_balance(made):
    table = made["balance_variants"]
    figure = figures.balance_variants(table, group="law")
    lines = parts(figure, "law")
    nulls, balanced = ([part for part in figure.data if part.legendgroup == name] for name in ("null", "balanced"))
    assert len(lines) == len(nulls) == len(figure.layout.annotations) == len(VARIANTS)
    scopes = {"load_balancing_loss_sequence": "mean over windows, each alike",
              "load_chi_squared": "7 degrees of freedom · no interval: a test"}  # fmt: skip
    for metric, line, null, title in zip(VARIANTS, lines, nulls, figure.layout.annotations, strict=True):
        own = pick(table, group="law", metric=metric)
        same_interval(line, own)
        np.testing.assert_array_equal(null.y, own["null"])
        assert null.line.dash == "dot"
        assert title.text.startswith(f"{metric_of(metric).label}<br>")
        caption = title.text.split('px">', 1)[1].removesuffix("</span>")
        assert scopes.get(metric, "") in caption
        assert len(caption) <= 50, "panels stand side by side"
    assert [set(part.y) for part in balanced] == [{1 / 64}, {1.0}]  # of gshard and sequence
    assert {part.line.dash for part in balanced} == {"dash"}
    about = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "group law, the others behind · dotted: " in about
    assert "2 documents: no interval below 5" in about


def test_a_table_of_an_older_version_has_the_balanced_value_as_null(made):
    old = made["balance_variants"].drop(columns="balanced").assign(null=1.0)
    figure = figures.balance_variants(old, metrics=["load_balancing_loss_sequence"], group="law")
    [line] = [part for part in figure.data if part.line.dash == "dot"]
    assert line.name == "balanced"
    assert set(line.y) == {1.0}
    assert "<br>balanced: 1<br>" in figure.data[-1].hovertext[0]


def test_variants_that_need_weights_or_logits_are_left_out_without_them():
    table = tables_of(random_trace(2, logits=False))["balance_variants"]
    titles = [note.text.split("<br>")[0] for note in figures.balance_variants(table).layout.annotations]
    assert titles == [metric_of(name).label for name in ("max_violation_batch", "inverse_simpson", "load_chi_squared")]


@pytest.mark.parametrize("layer", [None, 1])
def test_both_scores_of_relevance_stand_side_by_side(made, layer):
    table = made["expert_relevance"]
    figure = figures.expert_relevance(table, layer=layer, group="code")
    for metric in RELEVANCE:
        bars = parts(figure, RELEVANCE[metric])
        for number, bar in zip(range(3) if layer is None else [layer], bars, strict=True):
            same_interval(bar, pick(table, layer=number, group="code", metric=metric))
            assert f"{metric_of(metric).label}: <b>" in bar.hovertext[0]
    [*even] = parts(figure, "even use (12.5%)")
    assert {float(value) for line in even for value in line.y} == {1 / 8}
    assert figure.layout.barmode == "group"


def test_relevance_without_weights_has_one_score():
    table = tables_of(random_trace(2, logits=False))["expert_relevance"]
    bars = [part for part in figures.expert_relevance(table, layer=0).data if part.type == "bar"]
    assert [bar.name for bar in bars] == ["selection ratio"]
    assert not np.isnan(figures.expert_relevance_map(table).data[0].z).any()


def test_the_map_of_relevance_is_centred_on_even_use(made):
    table = made["expert_relevance"]
    figure = figures.expert_relevance_map(table, metric="average_gate_score", group="law")
    own = pick(table, group="law", metric="average_gate_score")
    np.testing.assert_array_equal(figure.data[0].z, drawn(own).reshape(3, 8))
    axis = figure.layout.coloraxis
    assert (axis.cmin + axis.cmax) / 2 == pytest.approx(1 / 8)
    by_group = figures.expert_relevance_map(table, group=None)
    assert [note.text for note in by_group.layout.annotations] == ["code", "law", "math", "all"]


@pytest.mark.parametrize("layer", [None, 2])
def test_skipped_experts_by_threshold_and_each_layer_behind(made, layer):
    table = made["skipping_simulation"]
    figure = figures.skipping_simulation(table, layer=layer)
    own = pick(table, layer=layer, group="all", metric="skipped_share")
    (line,) = parts(figure, "all layers together" if layer is None else "layer 2")
    same_interval(line, own)
    np.testing.assert_array_equal(line.x, [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_array_equal(parts(figure, "all logits alike")[0].y, own["null"])
    for number, behind in enumerate(parts(figure, "each layer")):
        each = pick(table, layer=number, group="all", metric="skipped_share")
        np.testing.assert_array_equal(behind.y, drawn(each))
        assert f"layer {number}" in behind.hovertext[0]
    assert len(parts(figure, "each layer")) == 3


def test_the_weight_of_the_last_choice_by_layer(made):
    table = made["skipping_simulation"]
    figure = figures.weight_ratio(table)
    own = pick(table, group="all", metric="weight_ratio")
    same_interval(parts(figure, "all")[0], own[own["layer"].notna()])
    assert set(parts(figure, "all logits alike")[0].y) == {1.0}


@pytest.mark.parametrize("metric", ["mutual_information_bits", "mutual_information_bits_corrected"])
def test_what_the_token_before_tells_is_beside_what_chance_shows(made, metric):
    table = made["context_information"]
    figure = figures.context_information(table, metric=metric, min_count=1)
    null = {"mutual_information_bits": "chance alone", "mutual_information_bits_corrected": "nothing to tell"}[metric]
    panels = zip(parts(figure, "all"), parts(figure, null), figure.layout.annotations, strict=True)
    titles = {
        "token": "the token",
        "previous token": "the token before",
        "previous token|token": "the token before, beyond the token itself",
        "next token": "the token that follows",
    }  # what the model expects was not recorded
    for (variable, title), (line, chance, note) in zip(titles.items(), panels, strict=True):
        own = pick(table, variable=variable, group="all", metric=metric, min_count=1)
        np.testing.assert_array_equal(line.y, drawn(own))
        np.testing.assert_array_equal(chance.y, own["null"])
        assert note.text == title
        assert f"{null}: " in line.hovertext[0]
    assert len({axis.matches for axis in figure.select_yaxes()} - {None}) == 1  # one scale


def test_frequent_types_have_intervals(made):
    table = made["context_information"]
    # Five choices for each of 8 experts, two to a token.
    figure = figures.context_information(table, min_count=20)
    for variable, line in zip(("token", "previous token"), parts(figure, "all"), strict=False):
        metric = "mutual_information_bits_corrected"
        own = pick(table, variable=variable, group="all", metric=metric, min_count=20)
        assert own["low"].notna().all()
        same_interval(line, own)
    with pytest.raises(InputError, match=r"min_count must be one the table has \(1, 20\), got 2"):
        figures.context_information(table, min_count=2)


def test_frequent_types_are_drawn_first_where_there_are_some(made):
    table = made["context_information"]
    assert figures.context_information(table) == figures.context_information(table, min_count=20)
    rare = table[(table["min_count"] == 1) | table["value"].isna()]
    assert figures.context_information(rare) == figures.context_information(rare, min_count=1)
    [drawn_once] = draw(TABLES["context_information"], table)
    assert drawn_once == figures.themed(figures.context_information(table, min_count=20))


@pytest.mark.parametrize("name", NAMES)
def test_the_report_draws_each_on_both_pages(made, name):
    for figure in draw(TABLES[name], made[name]):
        assert "n = " in figure.layout.title.subtitle.text
        dark = figures.themed(figure, dark=True)
        assert dark.layout.template.layout.font.color != figure.layout.template.layout.font.color
        for light, same in zip(figure.data, dark.data, strict=True):
            np.testing.assert_array_equal(np.asarray(light.x, object), np.asarray(same.x, object))
    assert draw(TABLES[name], made[name])


@pytest.mark.parametrize("name", NAMES)
def test_what_a_table_lacks_is_said(made, name):
    with pytest.raises(InputError, match=r"group must be one the table has \(.*\), got 'art'"):
        getattr(figures, name)(made[name], group="art")


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_of_ids_alone_is_drawn_where_it_has_values(name):
    ids = np.random.default_rng(1).permuted(np.tile(np.arange(4), (1, 50, 1)), axis=-1)[..., :2]
    table = tables_of(Trace.from_arrays(expert_ids=ids, num_experts=4), by=None)[name]
    assert bool(draw(TABLES[name], table)) == table["value"].notna().any()
