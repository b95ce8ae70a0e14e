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
