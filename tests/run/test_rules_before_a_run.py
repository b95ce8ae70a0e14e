"""Rules that would end a run are checked before it starts, and only what is whole is published."""

import numpy as np
import pytest

from mixtral_probe import InputError, Probe, RoutingStats, Trace, edits, files
from mixtral_probe.run import RunStoppedError
from mixtral_probe.stats import cached_stats
from mixtral_probe.stats.stats_size import statistics_bytes
from tests.support.cli import refused
from tests.support.models import SIZES, toy_model

TEXTS = [{"id": str(i), "text": "some words " * (i + 1), "domain": "ab"[i % 2]} for i in range(6)]


@pytest.fixture(scope="module")
def probe(tokenizer):
    return Probe(toy_model(vocab_size=8192, **SIZES), tokenizer, "toy")


RUNS = {
    "capture": lambda probe, texts, path, **how: probe.trace(texts, path=path, **how),
    "generation": lambda probe, texts, path, **how: probe.trace(texts, path=path, generate=2, **how),
    "ablation": lambda probe, texts, path, **how: probe.ablation(texts, layers=[0], experts=[0], path=path, **how),
    "saliency": lambda probe, texts, path, **how: probe.saliency(texts, **how),
    "what_if": lambda probe, texts, path, **how: probe.what_if(texts, [edits.MaskExpert(expert=0)], **how),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_name_of_the_group_of_all_documents_is_refused_before_the_run(probe, tmp_path, run):
    progress = []
    texts = [*TEXTS, {"id": "odd", "text": "more", "domain": "all"}]
    with pytest.raises(InputError, match=r"no domain may be \"all\", .* got it for the document 'odd'; rename it"):
        run(probe, texts, tmp_path / "out", on_progress=progress.append)
    assert progress == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ablation", "saliency"])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_documents_without_the_label_have_a_group_of_their_own(probe, tmp_path, name, missing):
    texts = [*TEXTS[:2], {"id": "odd", "text": "other words", "domain": missing}]
    result = RUNS[name](probe, texts, tmp_path / "out")
    assert set(result.table()["group"]) == {"a", "b", "(none)", "all"}


@pytest.mark.parametrize("name", RUNS)
def test_half_of_a_surrogate_pair_in_an_id_or_label_is_no_traceback(probe, tmp_path, name):
    RUNS[name](probe, [{"id": "a\ud800", "text": "some words", "domain": "\ud800"}], tmp_path / "out")


@pytest.mark.parametrize("name", RUNS)
def test_labels_of_different_kinds_are_refused_before_the_run(probe, tmp_path, name):
    progress, texts = [], [*TEXTS[:2], {"id": "odd", "text": "more", "domain": 3}]
    with pytest.raises(InputError, match="label 'domain' must be text, numbers or truth values, of one kind"):
        RUNS[name](probe, texts, tmp_path / "out", on_progress=progress.append)
    assert progress == []


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("name", ["capture", "generation"])
def test_a_trace_is_published_with_its_statistics_or_not_at_all(probe, tmp_path, name, monkeypatch):
    def broken(*_, **__):
        raise BrokenError

    with monkeypatch.context() as patch:
        patch.setattr(cached_stats.RoutingStats, "save", broken)
        with pytest.raises(BrokenError):
            RUNS[name](probe, TEXTS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    steps = []
    trace = RUNS[name](probe, TEXTS, tmp_path / "out", on_progress=steps.append)
    assert steps == [], "every document was there"
    saved, expected = RoutingStats.load(trace.path / "stats.safetensors"), RoutingStats.from_trace(trace, "domain")
    assert np.array_equal(saved.sums.load, expected.sums.load)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["capture", "generation"])
def test_a_disk_too_full_for_the_statistics_is_refused_before_the_run(probe, tmp_path, name, monkeypatch):
    whole = RUNS[name](probe, TEXTS, tmp_path / "whole")
    without = sum(file.stat().st_size for file in whole.path.iterdir() if file.name != "stats.safetensors")
    monkeypatch.setattr(files, "free_bytes", lambda path: without + 100)
    progress = []
    with pytest.raises(InputError, match=r"needs .* GB of free disk space"):
        RUNS[name](probe, TEXTS, tmp_path / "out", on_progress=progress.append)
    assert progress == []


@pytest.mark.parametrize("documents", [1, 40, 300])
@pytest.mark.parametrize("experts", [4, 16])
def test_the_size_of_statistics_is_an_upper_estimate(tmp_path, documents, experts):
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 3000, experts))
    trace = Trace.from_arrays(
        expert_ids=np.argsort(-logits, -1)[..., :2], router_logits=logits,
        document=np.sort(np.arange(3000) % documents), token_ids=random.zipf(1.3, 3000) % 5000,
        predicted_id=random.zipf(1.3, 3000) % 5000, documents=[{"domain": "abc"[i % 3]} for i in range(documents)],
    )  # fmt: skip
    RoutingStats.from_trace(trace, by="domain").save(tmp_path / "s")
    most = statistics_bytes(trace.documents, trace.tokens, layers=3, experts=experts, chosen=2)
    actual = (tmp_path / "s").stat().st_size
    assert actual <= most <= 8 * actual


def test_a_broken_choice_of_an_instrument_ends_the_run_at_its_first_batch(probe):
    progress = []

    def twice(routing, context):
        return type(routing)(routing.expert_ids * 0, routing.weights, routing.logits)

    with pytest.raises(InputError, match="experts of a token must differ, got 0 twice"):
        probe.trace(
            TEXTS, instruments=[edits.Function(layer=1, site="routing", function=twice)], positions_in_a_batch=1,
            on_progress=progress.append,
        )  # fmt: skip
    assert len(progress) <= 2


def test_a_stopped_run_is_not_published(probe, tmp_path):
    with pytest.raises(RunStoppedError):
        probe.trace(TEXTS, path=tmp_path / "out", should_stop=lambda: True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["saliency", "time", "ablate", "capture", "whatif"])
def test_an_output_of_another_kind_is_refused_before_the_model_is_loaded(tmp_path, verb):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    more = ["--edit", "top_k experts=1"] if verb == "whatif" else []
    sentence = refused(verb, *more, "--model", "none", "--text", "x", "--out", tmp_path / "mine")
    assert "mine must be a new or empty folder" in sentence


def test_a_table_that_cannot_be_written_is_refused_before_the_model_is_loaded(tmp_path):
    sentence = refused("saliency", "--model", "none", "--text", "x", "--csv", tmp_path / "none" / "a.csv")
    assert "must be writable, got 'no such file or directory'" in sentence
    assert "must be a file, got a folder" in refused("time", "--model", "none", "--text", "x", "--csv", tmp_path)
