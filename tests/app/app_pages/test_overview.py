"""The overview says what the tables say, and leads to the place."""

import dataclasses

from mixtral_probe import Trace, tables
from mixtral_probe.stats import routing_stats
from tests.support.app_traces import clean, opened, routed_trace, texts
from tests.support.routing import estimate


def test_the_sentences_name_the_extreme_rows_and_lead_to_them(monkeypatch, tmp_path):
    path = routed_trace(documents=12).save(tmp_path / "random.trace")
    test = clean(opened(monkeypatch, path))
    assert test.title[0].value == "Overview"
    stats = routing_stats(Trace.load(path))
    load = tables.expert_load(stats).query("metric == 'share' and group == 'all'")
    top = load.iloc[estimate(load).argmax()]
    html = texts(test)
    assert f"The most used expert is expert {top['expert']} of layer {top['layer']}: {estimate(top):.1%}" in html
    balance = tables.balance(stats).query("group == 'all'")
    worst = balance[balance["metric"] == "max_violation"].set_index("layer")["value"].idxmax()
    spread = balance.query(f"metric == 'cv_squared' and layer == {worst}").iloc[0]
    assert f"Layer {worst} is the least balanced" in html
    assert f"The CV² of layer {worst} is {estimate(spread):.3g} (95 % interval {spread['low']:.3g}" in html
    groups = tables.domain_specialization(stats).query("metric == 'frequency_difference' and group != 'all'")
    most = groups.iloc[estimate(groups).argmax()]
    assert f"expert {most['expert']} of layer {most['layer']}: of the tokens of {most['group']}" in html
    assert "<dt>documents</dt><dd>12</dd>" in html
    assert "code 6, prose 6" in html
    clean(test.button(key="finding_balance").click().run())
    assert test.session_state["layer"] == worst


def test_the_card_lists_the_parameters_of_each_part(monkeypatch, tmp_path):
    trace = routed_trace()
    model = {
        "name": "m",
        "parameters": 200,
        "active_parameters": 90,
        "parameters_by_part": {"experts": 150, "head": 50},
    }
    meta = trace.meta.model_copy(update={"model": model})
    path = dataclasses.replace(trace, meta=meta).save(tmp_path / "random.trace")
    html = texts(clean(opened(monkeypatch, path)))
    assert "<dt>– experts</dt><dd>150 (75.0%)</dd><dt>– head</dt><dd>50 (25.0%)</dd>" in html
    assert "<dt>active for each token</dt><dd>90 (45.0%)</dd>" in html


def test_long_lists_of_labels_are_summed_up_and_listed_below(monkeypatch, tmp_path):
    trace = routed_trace()
    sources = [f"{'a long name of a source ' * 4}{number}" for number in range(len(trace.documents))]
    path = dataclasses.replace(trace, documents=trace.documents.assign(source=sources)).save(tmp_path / "long.trace")
    test = clean(opened(monkeypatch, path))
    assert f"<dt>source</dt><dd>{len(sources)} values, in the list below</dd>" in texts(test)
    assert test.expander[0].label == "All values of the labels with long lists"
    assert sorted(test.expander[0].dataframe[0].value["source"]) == sorted(sources)
