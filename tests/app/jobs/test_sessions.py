"""Eight people at once: each sees its own, memory stays bounded, and nobody waits for ever."""

import threading
from pathlib import Path

import pytest

from app.jobs import limits
from app.jobs.queue import JobRegistry, State
from mixtral_probe import InputError, Probe, Trace

PEOPLE, ROUNDS, SOON = 8, 4, 120.0


@pytest.fixture(scope="module")
def probe(toy_path) -> Probe:
    return Probe.from_pretrained(toy_path)


class Person:
    """Captures texts of its own, one after the other, and looks at what came of them."""

    def __init__(self, number: int, registry: JobRegistry, probe: Probe) -> None:
        self.name, self.registry, self.probe = f"person {number}", registry, probe
        self.wrong: list[str] = []

    def __call__(self) -> None:
        for number in range(ROUNDS):
            text = f"{self.name} says {number} " * (number + 1)
            job = self.registry.wait(self.submit(text), SOON)
            if job.state is not State.DONE:
                self.wrong.append(f"{job.state}: {job.error}")
            elif self.read(job.result) != text:
                self.wrong.append(f"{text!r} was captured, but {self.read(job.result)!r} is there")
            seen = {other.session for other in self.registry.of(self.name)}
            if seen != {self.name}:
                self.wrong.append(f"{self.name} sees {seen}")

    def submit(self, text: str) -> str:
        def work(path: Path, tell, stop) -> None:
            self.probe.trace([{"id": self.name, "text": text}], path=path, on_progress=tell, should_stop=stop)

        while True:
            try:
                return self.registry.submit(self.name, "capture", text, work)
            except InputError:  # the line is full: wait as a person would
                threading.Event().wait(0.01)

    def read(self, result: Path | None) -> str:
        tokens = Trace.load(result).tokens
        return self.probe.tokenizer.decode(tokens["token_id"][~tokens["special"]].tolist())


def test_eight_people_at_once_each_get_their_own_text_and_disk_and_line_stay_bounded(tmp_path, probe):
    kept = 2 * PEOPLE
    registry = JobRegistry(tmp_path, keep=kept)
    people = [Person(number, registry, probe) for number in range(PEOPLE)]
    threads = [threading.Thread(target=person) for person in people]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, len([path for path in tmp_path.iterdir() if path.name.isalnum()]))
        threading.Event().wait(0.01)
    for thread in threads:
        thread.join(SOON)
    assert [person.wrong for person in people] == [[]] * PEOPLE
    assert most <= kept + 1, "the oldest results go when new ones come"
    assert sum(len(registry.of(person.name)) for person in people) == kept


def test_whoever_cancels_ends_its_own_jobs_alone_and_the_line_empties(tmp_path):
    registry = JobRegistry(tmp_path, keep=100)
    gate = threading.Event()

    def work(path: Path, tell, stop) -> None:
        gate.wait(SOON)
        path.mkdir()

    def submit_all(name: str, found: dict[str, list[str]]) -> None:
        found[name] = [registry.submit(name, "x", name, work) for _ in range(limits.JOBS_WAITING_EACH - 1)]

    found: dict[str, list[str]] = {}
    threads = [threading.Thread(target=submit_all, args=(f"person {n}", found)) for n in range(PEOPLE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    waiting = {name: [job for job in registry.of(name) if job.state is State.WAITING] for name in found}
    for name in list(found)[::2]:
        for job in waiting[name]:
            registry.cancel(name, job.id)
    gate.set()
    for number, (name, ids) in enumerate(found.items()):
        cancelled = {job.id for job in waiting[name]} if number % 2 == 0 else set()
        for job_id in ids:
            over = registry.wait(job_id, SOON)
            assert over.state is (State.STOPPED if job_id in cancelled else State.DONE)
