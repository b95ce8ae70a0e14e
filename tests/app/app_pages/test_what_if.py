"""The page What-if shows what `Probe.what_if` finds, keeps the edit in the address, and mixes up nobody's edits."""

import json

import pytest

from app.jobs import what_ifs
from mixtral_probe import InputError, Probe, edits
from tests.support.app_traces import card_values, clean, opened, routed_trace, texts
from tests.support.what_ifs import edited_totals

TEXT = "one two three\n"


@pytest.fixture(scope="module")
def probe():
    return Probe.from_pretrained("mini")


def page(monkeypatch, trace_path, **query):
    return opened(monkeypatch, trace_path, page="what_if", query={"text": TEXT, **query})


def assert_shows(test, row):
    shown = card_values(test)
    assert shown["change of the loss, nats"] == f"{row.loc['loss_change', 'value']:+.3f}"
    assert shown["share of tokens rerouted"] == f"{row.loc['rerouted', 'value']:.1%}"
    band = row.loc["rerouted"]
    assert f"placebo: {band['null']:.1%}" in texts(test)
    draws = band["placebo_draws"]  # no more than there are ways for the placebo to turn out
    ends = f"{draws} draws: {band['placebo_low']:.1%} – {band['placebo_high']:.1%}"
    p = f", p {band['p']:.2g}" if draws == what_ifs.PLACEBOS else ""
    assert f"{ends}, rank {band['placebo_rank']} of {draws + 1}{p}" in texts(test)


def test_the_address_says_the_edit_and_a_changed_slider_changes_it(monkeypatch, trace_path, probe):
    test = clean(page(monkeypatch, trace_path, edit_expert="3", edit_layers="2..4"))
    assert_shows(test, edited_totals(probe, TEXT, "mask_expert layer=2..4 expert=3"))
    clean(test.select_slider(key="edit_expert").set_value(1).run())
    assert_shows(test, edited_totals(probe, TEXT, "mask_expert layer=2..4 expert=1"))
    assert test.query_params["edit_expert"] == "1"


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("zero_expert", "zero_expert expert=0"),
        ("bias_router", "bias_router expert=0 bias=2"),
        ("swap_experts", "swap_experts expert=0,1"),
        ("force_experts", "force_experts expert=0,1"),
        ("top_k", "top_k experts=1"),
        ("temperature", "temperature temperature=2"),
        ("noise_router", "noise_router std=1"),
        ("random_routing", "random_routing share=1"),
        ("mask_head", "mask_head head=0"),
        ("scale_head", "scale_head head=0 factor=0.5"),
    ],
)
def test_every_kind_of_change_can_be_put_together(monkeypatch, trace_path, probe, kind, typed):
    test = page(monkeypatch, trace_path, edit=kind)
    row = edited_totals(probe, TEXT, f"{typed} layer=0..7")
    assert not test.exception
    assert card_values(test)["change of the loss, nats"] == f"{row.loc['loss_change', 'value']:+.3f}"


def test_changes_are_added_saved_and_loaded(monkeypatch, trace_path, probe):
    more = "top_k experts=1 layer=0\nmask_expert expert=2 layer=5 position=0..3"
    test = clean(page(monkeypatch, trace_path, edit="none", more=more))
    assert_shows(test, edited_totals(probe, TEXT, *more.splitlines()))
    assert edits.from_json(what_ifs.file(more.splitlines())) == tuple(map(edits.parse, more.splitlines()))
    assert list(map(edits.parse, what_ifs.lines(what_ifs.file(more.splitlines())).splitlines())) == list(
        map(edits.parse, more.splitlines())
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"more": "mask_everything"}, "an edit must be one of"),
        ({"more": "mask_expert expert=99"}, "99"),
        ({"pinned_edit": "temperature temperature=0"}, "temperature"),
    ],
)
def test_a_mistake_is_one_sentence(monkeypatch, trace_path, query, said):
    test = page(monkeypatch, trace_path, **query)
    assert not test.exception
    assert said in " ".join(error.value for error in test.error)


@pytest.mark.parametrize("key", ["more", "pinned_edit"])
def test_an_address_opens_nothing_on_this_machine(monkeypatch, trace_path, tmp_path, key):
    for path in (trace_path, tmp_path / "nothing.trace"):
        typed = f"replay_routing trace={path}"
        test = page(monkeypatch, trace_path, **{key: typed})
        assert "which is not done here" in " ".join(error.value for error in test.error)
        saved = json.dumps({"format": "mixtral-probe edits", "edits": [{"edit": "replay_routing", "trace": str(path)}]})
        with pytest.raises(InputError, match="which is not done here"):
            what_ifs.lines(saved)


@pytest.mark.parametrize("query", [{"edit": "none"}, {"text": "\n"}])
def test_without_a_change_or_a_text_the_page_says_what_to_do(monkeypatch, trace_path, query):
    test = clean(page(monkeypatch, trace_path, **query))
    assert [info.value for info in test.info] == ["Write a text and choose a change to see its effect."]


def test_a_pinned_change_stands_beside(monkeypatch, trace_path, probe):
    test = clean(page(monkeypatch, trace_path, edit_expert="3"))
    clean(test.button(key="pin").click().run())
    clean(test.select_slider(key="edit_expert").set_value(1).run())
    both = [metric.value for metric in test.metric if metric.label == "change of the loss, nats"]
    assert both == [
        f"{edited_totals(probe, TEXT, f'mask_expert layer=0..7 expert={one}').loc['loss_change', 'value']:+.3f}"
        for one in (3, 1)
    ]
    assert test.query_params["pinned_edit"] == "mask_expert layer=0..7 expert=3"
    clean(test.button(key="unpin").click().run())
    assert "pinned_edit" not in test.query_params


def test_what_is_pinned_here_is_no_trace_to_compare_with(monkeypatch, trace_path, tmp_path):
    second = routed_trace(1).save(tmp_path / "second.trace")
    query = {"pinned_edit": "top_k experts=1", "text": TEXT}
    test = clean(opened(monkeypatch, trace_path, second, page="what_if", query=query))
    test = clean(test.switch_page("app_pages/compare.py").run())
    assert not test.warning
    assert test.query_params["pinned_edit"] == "top_k experts=1"


def test_the_text_offered_at_first_is_not_in_the_address(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="what_if"))
    assert test.text_area(key="text").value == what_ifs.TEXT
    assert "text" not in test.query_params


def test_the_text_is_continued_both_ways(monkeypatch, trace_path, probe):
    test = clean(page(monkeypatch, trace_path, edit_expert="3"))
    clean(test.button(key="edited_continue").click().run())
    result = probe.what_if([TEXT], [edits.parse("mask_expert layer=0..7 expert=3")], generate=what_ifs.CONTINUED)
    assert [code.value for code in test.code] == [*result.generated[0], result.generated_placebo[0][0]]
    row = result.overall().query("run == 'edited' and metric == 'continuation_kept'").iloc[0]
    assert card_values(test)["continuation kept"] == f"{row['value']:.1%}"


def test_numbers_come_before_the_placebo_is_drawn(monkeypatch, trace_path, probe):
    """A first run without draws, then one that reports its progress; neither runs again when the page does."""
    asked = []
    run = probe.what_if

    class Watched:
        model, estimate_what_if = probe.model, probe.estimate_what_if

        def what_if(self, *arguments, placebos, on_progress, **more):
            asked.append((placebos, on_progress is not None))
            return run(*arguments, placebos=placebos, on_progress=on_progress, **more)

    monkeypatch.setattr(what_ifs.models, "embedded", Watched)
    test = clean(page(monkeypatch, trace_path, text="never run before", edit_expert="2"))
    assert asked == [(0, False), (what_ifs.PLACEBOS, True)]
    clean(test.run())
    assert len(asked) == 2
    assert len([metric for metric in test.metric if metric.label == "change of the loss, nats"]) == 1
