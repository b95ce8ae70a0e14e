"""The page Experts shows the tables' numbers of one expert, and what a measurement found."""

import pytest

from app.jobs import captures, expert_measurements, models, registry
from mixtral_probe import InputError, Probe, Result, tables
from mixtral_probe.stats import routing_stats
from mixtral_probe.tables.registry import metric_of
from tests.support.app_traces import card_values, clean, opened, routed_trace, texts
from tests.support.routing import estimate, pick

TEXTS = [
    {"id": "a", "text": "one two three four five", "domain": "x"},
    {"id": "b", "text": "six seven eight", "domain": "y"},
]
QUERY = {"layer": "1", "expert": "3"}


@pytest.fixture(scope="module")
def toy(toy_path):
    return Probe.from_pretrained(toy_path)


@pytest.fixture(autouse=True)
def _own_model(monkeypatch, toy):
    """The toy stands in for the embedded model."""
    monkeypatch.setattr(models, "_embedded", lambda: toy)
    monkeypatch.setattr(expert_measurements, "read_corpus", lambda name: captures.read_corpus(TEXTS))


def measured(test):
    """The page once the experts are measured, and where the results lie."""
    clean(test.button(key="experts_measure").click().run())
    (job,) = registry.registry().of(test.session_state["session"], "experts")
    job = registry.registry().wait(job.id, 60.0)
    clean(test.run())
    return job.result


def test_load_and_partners_are_those_of_the_tables(monkeypatch, tmp_path):
    trace = routed_trace()
    path = trace.save(tmp_path / "a.trace")
    test = clean(opened(monkeypatch, path, page="experts", query=QUERY | {"group": "code"}))
    clean(test.segmented_control(key="pair_metric").set_value("coactivation_lift").run())
    stats = routing_stats(trace)
    load = pick(tables.expert_load(stats), layer=1, group="code", expert=3, metric="share").iloc[0]
    assert card_values(test)[metric_of("share").label] == f"{estimate(load):.1%}"
    lift = pick(tables.coactivation(stats), layer=1, group="code", expert=3, metric="coactivation_lift")
    for _, row in lift.iterrows():
        assert card_values(test)[f"expert {row['other_expert']}"] == f"{estimate(row):.3g}"
    order = lift.assign(estimate=estimate(lift)).sort_values("estimate", ascending=False)["other_expert"]
    partners = [label for label in card_values(test) if label.startswith("expert ")]
    assert partners == [f"expert {other}" for other in order]


def test_a_measurement_is_shown_for_a_trace_of_the_same_model(monkeypatch, tmp_path, toy):
    path = toy.trace(TEXTS).save(tmp_path / "toy.trace")
    test = clean(opened(monkeypatch, path, page="experts", query=QUERY))
    assert "Not measured yet" in texts(test)
    result = Result.load(measured(test) / "saliency")
    own = pick(tables.saliency(result), layer=1, group="all", expert=3, metric="reap").iloc[0]
    assert card_values(test)[metric_of("reap").label] == metric_of("reap").text(estimate(own))
    assert f"n = {own['n']:,} tokens" in texts(test)
    promoted = pick(tables.promoted_tokens(result), layer=1, expert=3)["token"].tolist()
    promoted = [token.replace(" ", "␣") for token in promoted]
    assert promoted in [frame.value.get("token", frame.value.iloc[:, 0]).tolist() for frame in test.dataframe]
    for metric in ("output_cosine", "aligned_cosine"):
        clean(test.segmented_control(key="alike").set_value(metric).run())


def test_a_measurement_of_another_model_is_not_shown(monkeypatch, tmp_path):
    path = routed_trace().save(tmp_path / "a.trace")
    test = clean(opened(monkeypatch, path, page="experts", query=QUERY))
    measured(test)
    assert "not of the embedded model" in test.info[-1].value
    assert metric_of("reap").label not in card_values(test)


def test_a_full_line_is_told_of_in_one_sentence(monkeypatch, tmp_path):
    def full(*arguments, **options):
        raise InputError("the line is full")

    path = routed_trace().save(tmp_path / "a.trace")
    test = clean(opened(monkeypatch, path, page="experts", query=QUERY))
    monkeypatch.setattr(registry, "submit", full)
    test.button(key="experts_measure").click().run()
    assert not test.exception
    assert [error.value for error in test.error] == ["the line is full"]


def test_an_ablation_of_the_layer_is_shown_with_its_band(monkeypatch, tmp_path, toy):
    path = toy.trace(TEXTS).save(tmp_path / "toy.trace")
    test = clean(opened(monkeypatch, path, page="experts", query=QUERY))
    tokens = len(toy.plan(TEXTS).token_ids)
    assert f"every expert of layer 1 is left out, one at a time, over {tokens} tokens, beside 7 draws" in texts(test)
    clean(test.button(key="experts_ablate").click().run())
    (job,) = registry.registry().of(test.session_state["session"], "ablation")
    job = registry.registry().wait(job.id, 60.0)
    assert job.progress.complete
    clean(test.run())
    table = tables.ablation(Result.load(job.result))
    own = pick(table, group="all", expert=3).set_index("metric")
    for metric in ("loss_increase", "loss_increase_beyond_placebo", "loss_increase_rank"):
        assert card_values(test)[metric_of(metric).label] == metric_of(metric).text(estimate(own.loc[metric]))
    lost = own.loc["loss_increase"]
    ends = " – ".join(metric_of("loss_increase").text(lost[name]) for name in ("placebo_low", "placebo_high"))
    assert f"7 draws: {ends}" in texts(test)
    clean(test.segmented_control(key="lost").set_value("loss_increase_rank").run())
    clean(test.selectbox(key="expert").set_value(5).run())


def test_a_layer_that_the_embedded_model_lacks_is_not_left_out(monkeypatch, tmp_path):
    path = routed_trace(layers=5).save(tmp_path / "a.trace")
    test = clean(opened(monkeypatch, path, page="experts", query=QUERY | {"layer": "4"}))
    assert "The embedded model, whose experts can be left out here, has no layer 4." in [i.value for i in test.info]
    assert not [button for button in test.button if button.key == "experts_ablate"]
