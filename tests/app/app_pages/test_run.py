"""The pages Run and Timing, and what they may open."""

import importlib.util
import io
import time
import zipfile
from pathlib import Path

import pytest

from app.jobs import exports, models, registry
from app.jobs.queue import StoppedError
from app.state import roots, sources
from mixtral_probe import InputError, Probe, Trace, tables
from tests.support.app_traces import card_values, clean, opened, routed_trace, texts
from tests.support.cli import toy_folder

SOON = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What may be opened: a model and a trace, and beside it what may not."""
    base = tmp_path_factory.mktemp("disk")
    toy_folder(base / "allowed" / "models" / "toy")
    routed_trace().save(base / "allowed" / "a.trace")
    routed_trace(1).save(base / "outside.trace")
    (base / "allowed" / "link.trace").symlink_to(base / "outside.trace")
    return base


@pytest.fixture(autouse=True)
def _own_model(monkeypatch, folder):
    """The toy stands in for the embedded model."""
    toy = Probe.from_pretrained(folder / "allowed" / "models" / "toy")
    monkeypatch.setattr(models, "_embedded", lambda: toy)


def started(monkeypatch, folder, page="run"):
    return opened(monkeypatch, folder / "allowed" / "a.trace", Path(f"--allow={folder / 'allowed'}"), page=page)


def finished(test, kind):
    """The page once its newest job is over, and that job."""
    (job, *_) = reversed(registry.registry().of(test.session_state["session"], kind))
    job = registry.registry().wait(job.id, SOON)
    clean(test.run())
    return job


def capture(test, text):
    test.text_area(key="run_text").set_value(text)
    clean(test.run())
    clean(test.button(key="run_start").click().run())
    return finished(test, "capture")


def test_a_typed_text_is_captured_and_offered_as_a_trace(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    job = capture(test, "one two three")
    trace = Trace.load(job.result)
    assert trace.meta.model["name"] == "toy"
    assert job.about == "“one two three”"
    assert "Capture 1" in test.selectbox(key="trace").options


def test_the_estimate_comes_before_anything_runs(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    clean(test.button(key="run_estimate").click().run())
    assert "of memory" in test.info[0].value
    assert registry.registry().of(test.session_state["session"]) == []


def test_a_model_below_an_allowed_folder_can_be_chosen(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    toy = str(folder / "allowed" / "models" / "toy")
    assert test.selectbox(key="run_model").options == ["the embedded one", f"toy · {Path(toy).parent}"]
    test.selectbox(key="run_model").set_value(toy)
    job = capture(test, "four five")
    assert job.about == "“four five” · toy"
    assert Trace.load(job.result).meta.corpus["documents"] == 1


def test_what_attention_was_asked_for_is_recorded_or_refused_in_a_sentence(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    test.text_input(key="run_attention").set_value("0,2")
    assert list(Trace.load(capture(test, "six seven").result).attention_layers) == [0, 2]
    test.text_input(key="run_attention").set_value("40")
    test.run()
    test.button(key="run_start").click().run()
    assert "layer must be in 0–2, got 40" in test.error[0].value
    assert len(registry.registry().of(test.session_state["session"])) == 1


def test_only_what_is_published_is_seen_by_others(monkeypatch, folder):
    mine, yours = started(monkeypatch, folder), started(monkeypatch, folder)
    job = capture(mine, "private words")
    assert not any("published" in name for name in clean(yours.run()).selectbox(key="trace").options)
    clean(mine.toggle(key=f"publish_{job.id}").set_value(True).run())
    assert "Capture 1, published" in clean(yours.run()).selectbox(key="trace").options
    assert "private words" not in str(dict(yours.query_params))
    clean(mine.toggle(key=f"publish_{job.id}").set_value(False).run())
    assert "Capture 1, published" not in clean(yours.run()).selectbox(key="trace").options


def test_a_trace_below_an_allowed_folder_is_opened_by_its_path(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    test.text_input(key="path_to_open").set_value("a.trace")
    test.button[[button.label for button in test.button].index("Open")].click().run()
    assert clean(test).session_state["trace"] == f"path-{folder / 'allowed' / 'a.trace'}"


@pytest.mark.parametrize("path", ["../outside.trace", "link.trace", "{}/outside.trace", "nowhere", "/etc", ""])
def test_a_path_that_leads_out_is_refused(monkeypatch, folder, path):
    monkeypatch.setattr(roots, "folders", lambda: [folder / "allowed"])
    with pytest.raises(InputError, match=r"must lie below|with a trace.json, got"):
        sources.open_path(path.format(folder))


def test_without_allowed_folders_no_path_is_opened(monkeypatch):
    monkeypatch.setattr(roots, "folders", list)
    with pytest.raises(InputError, match="start the dashboard with `mixtral-probe dashboard --allow DIR`"):
        roots.resolve("/")


@pytest.mark.parametrize(
    ("form", "file"), [("csv", "expert_load.csv"), ("parquet", "balance.parquet"), ("html", "report.html")]
)
def test_an_export_is_the_report_in_a_zip(monkeypatch, folder, form, file):
    test = clean(started(monkeypatch, folder))
    test.selectbox(key="export_form").set_value(form).run()
    clean(test.button(key="export_start").click().run())
    job = finished(test, "export")
    with zipfile.ZipFile(io.BytesIO((job.result / exports.FILE).read_bytes())) as archive:
        assert f"a.trace/{file}" in archive.namelist()
        assert archive.testzip() is None
    assert any(button.label.startswith("Download") for button in test.get("download_button"))


@pytest.mark.skipif(importlib.util.find_spec("kaleido") is not None, reason="kaleido is installed")
def test_pictures_need_kaleido_and_the_page_says_so(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    clean(test.selectbox(key="export_form").set_value("png").run())
    assert "PNG pictures need the package kaleido" in test.info[0].value
    assert "export_start" not in [button.key for button in test.button]


def test_another_model_at_work_is_waited_for_by_jobs_and_refused_to_estimates(folder):
    toy = str(folder / "allowed" / "models" / "toy")
    with (
        models.use(toy, wait=True),
        pytest.raises(InputError, match="try again when the running job has finished"),
        models.use(toy, wait=False),
    ):
        pass
    with models.use(toy, wait=False) as probe:
        assert probe.name == "toy"


def test_timing_measures_and_shows_its_table(monkeypatch, folder):
    test = clean(started(monkeypatch, folder, page="timing"))
    assert "None yet" in texts(test)
    test.text_area(key="timing_text").set_value("eight nine ten")
    test.slider(key="timing_repeats").set_value(6)
    clean(test.run())
    clean(test.button(key="timing_start").click().run())
    job = finished(test, "timing")
    from mixtral_probe import Result

    table = tables.timing(Result.load(job.result))
    whole = table[(table["layer"].isna() & (table["part"] == "whole")).to_numpy(dtype=bool)].set_index("metric")[
        "value"
    ]
    shown = card_values(test)
    assert float(shown["time, ms"]) == pytest.approx(whole["milliseconds"], rel=5e-3)
    assert shown["cost of timing"] == f"{whole['instrument_cost']:+.1%}"
    for metric in ("milliseconds", "rows", "peak_bytes"):
        clean(test.segmented_control(key="timing_experts_metric").set_value(metric).run())
    # A timing is no trace, and not in the list of them.
    assert "Timing 1" not in test.selectbox(key="trace").options


def test_a_waiting_job_says_its_place_and_can_be_cancelled(monkeypatch, folder):
    test = clean(started(monkeypatch, folder))
    jobs = registry.registry()
    going: list[bool] = []

    def slow(path, tell, stop):
        going.append(True)
        while not stop():
            time.sleep(0.01)
        raise StoppedError

    first = jobs.submit("another session", "x", "y", slow)
    clean(test.button(key="run_start").click().run())
    clean(test.run())
    assert "Waiting, 1 before it" in texts(test)
    (job,) = jobs.of(test.session_state["session"])
    clean(test.button(key=f"cancel_{job.id}").click().run())
    assert "Cancelled" in texts(test)
    jobs.cancel("another session", first)
    assert jobs.wait(first, SOON).ended
