"""The jobs of the dashboard: one at a time, in order, each for the session that asked."""

import threading
from pathlib import Path

import pytest

from app.jobs import limits
from app.jobs.queue import JobRegistry, State, StoppedError
from mixtral_probe import InputError

SOON = 20.0
"""Seconds after which a test gives up waiting."""


@pytest.fixture
def registry(tmp_path) -> JobRegistry:
    return JobRegistry(tmp_path)


def writes(path: Path, tell, stop) -> None:
    path.mkdir()
    (path / "result").write_text("done")


class Gate:
    """Work that waits until it is let go, or told to stop."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(self, path: Path, tell, stop) -> None:
        self.started.set()
        tell("begun")
        while not self.go.wait(0.01):
            if stop():
                Path(f"{path}.partial").mkdir()
                raise StoppedError
        writes(path, tell, stop)


def submit(registry, work, session="me") -> str:
    return registry.submit(session, "name", "about", work)


def only(registry, session="me"):
    (job,) = registry.of(session)
    return job


def test_a_finished_job_has_its_result(registry):
    job = registry.wait(submit(registry, writes), SOON)
    assert job.state is State.DONE
    assert (job.result / "result").read_text() == "done"


def test_jobs_run_one_after_the_other_in_the_order_they_came(registry):
    order, running = [], []

    def work(number):
        def noted(path, tell, stop):
            running.append(number)
            assert len(running) == 1
            order.append(number)
            running.remove(number)
            writes(path, tell, stop)

        return noted

    gate = Gate()
    submit(registry, gate, "another session")
    ids = [submit(registry, work(number), f"session {number}") for number in range(6)]
    assert gate.started.wait(SOON)
    assert [registry.place(job_id) for job_id in ids] == [1, 2, 3, 4, 5, 6]
    gate.go.set()
    assert all(registry.wait(job_id, SOON).state is State.DONE for job_id in ids)
    assert order == list(range(6))


def test_a_session_sees_and_cancels_only_its_own(registry):
    gate = Gate()
    mine = submit(registry, gate, "me")
    yours = submit(registry, writes, "you")
    assert [job.id for job in registry.of("me")] == [mine]
    assert [job.id for job in registry.of("you")] == [yours]
    assert registry.of("nobody") == []
    registry.cancel("you", mine)
    assert gate.started.wait(SOON)
    gate.go.set()
    assert registry.wait(mine, SOON).state is State.DONE


def test_progress_is_told_while_it_runs(registry):
    gate = Gate()
    submit(registry, gate)
    assert gate.started.wait(SOON)
    while only(registry).progress is None:
        pass
    assert only(registry).progress == "begun"
    gate.go.set()


def test_a_running_job_stops_and_leaves_nothing_behind(registry, tmp_path):
    gate = Gate()
    job_id = submit(registry, gate)
    assert gate.started.wait(SOON)
    registry.cancel("me", job_id)
    assert registry.wait(job_id, SOON).state is State.STOPPED
    assert list(tmp_path.iterdir()) == []


def test_a_waiting_job_is_taken_out_of_the_line_and_never_runs(registry):
    gate, ran = Gate(), []
    first = submit(registry, gate)
    waiting = submit(registry, lambda *_: ran.append(1))
    registry.cancel("me", waiting)
    assert registry.wait(waiting, SOON).state is State.STOPPED
    gate.go.set()
    assert registry.wait(first, SOON).state is State.DONE
    assert ran == []


def test_a_mistake_of_the_user_is_its_sentence(registry):
    def work(path, tell, stop):
        raise InputError("layer 40 was asked for, but this model has 8 layers (0–7)")

    job = registry.wait(submit(registry, work), SOON)
    assert (job.state, job.error) == (State.FAILED, "layer 40 was asked for, but this model has 8 layers (0–7)")


def test_after_a_job_that_broke_the_next_one_runs(registry):
    def work(path, tell, stop):
        path.mkdir()
        raise MemoryError("too large")

    broken, fine = submit(registry, work), submit(registry, writes)
    assert registry.wait(broken, SOON).error == "the capture failed: MemoryError: too large"
    assert registry.wait(fine, SOON).state is State.DONE


def test_only_the_newest_results_are_kept(tmp_path):
    registry = JobRegistry(tmp_path, keep=2)
    ids = []
    for _ in range(5):
        ids.append(submit(registry, writes))
        registry.wait(ids[-1], SOON)
    assert [job.id for job in registry.of("me")] == ids[-2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ids[-2:])


def test_a_session_cannot_fill_the_line(registry):
    gate = Gate()
    submit(registry, gate)
    assert gate.started.wait(SOON)
    for _ in range(limits.JOBS_WAITING_EACH):
        submit(registry, writes)
    with pytest.raises(InputError, match=f"at most {limits.JOBS_WAITING_EACH} jobs of yours"):
        submit(registry, writes)
    submit(registry, writes, "somebody else")
    gate.go.set()
