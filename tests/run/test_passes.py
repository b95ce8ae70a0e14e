"""The one loop over batches: what it reports, and when it stops."""

import pytest
import torch

from mixtral_probe import Probe
from mixtral_probe.run import Passes, RunOptions, RunStoppedError
from mixtral_probe.run.passes import model_batches
from tests.support.models import toy_model

TEXTS = ["one two three four five", "a", "six seven"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def probe(tokenizer):
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 64}
    return Probe(toy_model(vocab_size=8192, **sizes), tokenizer, "toy")


def test_every_batch_runs_in_inference_mode_and_is_reported(probe):
    reports, modes, planned = [], [], probe.plan(TEXTS, window=3)
    options = RunOptions(positions_in_a_batch=1, on_progress=reports.append)
    Passes.of(planned, options).over(planned, CPU, lambda batch: modes.append(torch.is_inference_mode_enabled()))
    assert modes == [True] * len(planned.windows)
    assert not torch.is_inference_mode_enabled()
    assert (reports[-1].documents, reports[-1].tokens) == (3, len(planned.token_ids))
    # Shortest first, a document's windows one after the other: a document counts when its last window has run.
    windows = [sum(w.document == document for w in planned.windows) for document in (1, 2, 0)]
    counts = [done for done, number in enumerate(windows) for _ in range(number - 1)]
    assert [report.documents for report in reports] == sorted([*counts, 1, 2, 3])


def test_stop_is_asked_before_each_pass_and_ends_inference_mode(probe):
    planned, ran = probe.plan(TEXTS), []
    options = RunOptions(positions_in_a_batch=1, should_stop=lambda: len(ran) == 2)
    with pytest.raises(RunStoppedError):
        Passes.of(planned, options).over(planned, CPU, ran.append)
    assert len(ran) == 2
    with pytest.raises(ZeroDivisionError):
        Passes.of(planned, RunOptions()).over(planned, CPU, lambda batch: 1 / 0)
    assert not torch.is_inference_mode_enabled()


def test_a_step_that_needs_fewer_tokens_lowers_the_total():
    reports = []
    passes = Passes(RunOptions(on_progress=reports.append), documents=2, tokens=30, documents_done=1, tokens_done=10)
    with passes.step(20, 1) as step:
        step.tokens = 15
    (report,) = reports
    assert (report.documents, report.tokens, report.total_tokens, report.started_at) == (2, 25, 25, 10)


def test_batches_name_the_documents_they_complete(probe):
    planned = probe.plan(TEXTS, window=2)
    batches = list(model_batches(planned, CPU, RunOptions(positions_in_a_batch=1)))
    assert sorted(document for batch in batches for document in batch.completes) == [0, 1, 2]
    last = {document: max(i for i, b in enumerate(batches) if b.windows[0].document == document) for document in (0, 1)}
    assert all(document in batches[number].completes for document, number in last.items())


def test_what_need_not_run_leaves_the_total():
    reports = []
    passes = Passes(RunOptions(on_progress=reports.append), documents=3, tokens=40)
    with passes.step(10, documents=1):
        pass
    passes.skip(20, documents=1)
    with passes.step(10):
        pass
    assert [(p.documents, p.tokens, p.total_tokens) for p in reports] == [(1, 10, 40), (2, 10, 20), (2, 20, 20)]
    assert not reports[-1].complete, "a document is left"
    passes.complete(1)
    assert reports[-1].complete
