"""An output is written by one run at a time; the lock ends with its process, however that ends."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest

from mixtral_probe import InputError
from mixtral_probe.output_lock import OutputLock, Owner

HOLDER = """
import sys
from pathlib import Path
from mixtral_probe.output_lock import OutputLock
lock = OutputLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.trace"


@pytest.fixture
def holder(target):
    """Another process that has the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_refused_in_one_sentence_with_the_owner(target, holder):
    sentence = (
        rf"a\.trace is written by one run at a time, got one that is running \(process {holder.pid} on .+, since "
        r"\d{4}-.+\+00:00\); wait until it ends, stop it, or name another place"
    )
    with pytest.raises(InputError, match=sentence):
        OutputLock(target)


def test_a_killed_owner_keeps_nothing(target, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (target.parent / ".a.trace.lock").exists()
    with OutputLock(target):
        assert Owner.read(target.parent / ".a.trace.lock").process == os.getpid()
    assert list(target.parent.iterdir()) == []


def test_a_thread_may_take_it_again_and_another_thread_may_not(target, tmp_path):
    refusals = []

    def try_it():
        try:
            OutputLock(target)
        except InputError as error:
            refusals.append(str(error))

    def in_a_thread():
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()

    with OutputLock(target) as outer:
        with OutputLock(tmp_path / "." / "a.trace") as inner:
            assert (outer.first, inner.first) == (True, False)
        in_a_thread()
    assert len(refusals) == 1
    assert f"process {os.getpid()} on" in refusals[0]
    in_a_thread()
    assert len(refusals) == 1
    outer.release()
    assert not (tmp_path / ".b.lock").exists()


def add_ones(target, counter, times):
    """Add ones to a number in a file, reading and writing it apart; a refused try is repeated."""
    for _ in range(times):
        while True:
            try:
                with OutputLock(target):
                    counter.write_text(str(int(counter.read_text()) + 1))
                break
            except InputError:
                pass


def test_no_two_processes_have_it_at_once(target, tmp_path):
    (tmp_path / "counter").write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_ones, args=(target, tmp_path / "counter", 100)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "counter").read_text() == "400"


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, as some of clusters are."""

    def unsupported(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)


def leave(target, owner):
    (target.parent / f".{target.name}.lock").write_text(json.dumps(asdict(owner)))


def test_without_locks_a_running_owner_counts(target, no_locks):
    leave(target, Owner.current())
    with pytest.raises(InputError, match=f"process {os.getpid()} on"):
        OutputLock(target)
    leave(target, replace(Owner.current(), host="elsewhere", process=1))
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        OutputLock(target)
    (target.parent / ".a.trace.lock").write_text("{")
    with pytest.raises(InputError, match="another run"):
        OutputLock(target)


def test_without_locks_an_owner_that_is_gone_does_not_count(target, no_locks):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [
        replace(Owner.current(), process=ended.pid),
        replace(Owner.current(), started="another boot 12345"),  # its number is used again
    ]
    for owner in gone:
        leave(target, owner)
        with OutputLock(target) as lock:
            assert lock.first
            with pytest.raises(InputError, match=f"process {os.getpid()} on"):
                leave_thread_a_try(target)
        assert list(target.parent.iterdir()) == []


def leave_thread_a_try(target):
    errors = []

    def try_it():
        try:
            OutputLock(target)
        except InputError as error:
            errors.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    raise errors[0]
