"""Files and folders are whole or not there, and what a killed process left is removed by the next writer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mixtral_probe import InputError, files

WRITER = """
import os, signal, sys
from pathlib import Path
from mixtral_probe import files

target, way, event = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def interrupt():
    if event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("half", flush=True)
    sys.stdin.readline()

def fill(part):
    if way == "file":
        part.write_text("new")
    else:
        (part / "marker").write_text("new")
    interrupt()
    return ["marker"]

if way == "swap":
    rename, calls = Path.rename, []
    def second_kills(*paths):
        calls.append(paths)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*paths)
    Path.rename = second_kills
    files.write_folder(target, "marker", lambda part: (part / "marker").write_text("new"))
elif way == "file":
    files.write_file(target, fill)
elif way == "folder":
    files.write_folder(target, "marker", fill)
else:
    files.write_into(target, fill)
"""


def start(target, way, event):
    command = [sys.executable, "-c", WRITER, str(target), way, event]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def killed(target, way):
    """Run a writer that is killed by SIGKILL when half of its content is there."""
    with start(target, way, "kill") as process:
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL


def write(target, way, text="newest"):
    def fill(part):
        (part / "marker").write_text(text)
        return ["marker"]

    if way == "file":
        files.write_file(target, lambda part: part.write_text(text))
    elif way == "folder":
        files.write_folder(target, "marker", fill)
    else:
        files.write_into(target, fill)


def content(target):
    return (target if target.is_file() else target / "marker").read_text()


def leftovers(tmp_path):
    return [entry for entry in tmp_path.rglob(".*") if entry.suffix in (".partial", ".replaced")]


def test_a_folder_that_was_used_is_removed_also_after_a_kill(tmp_path):
    (tmp_path / "out.parts" / "deep").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        files.discard(tmp_path / "out.parts", tmp_path / "out")
    assert len(leftovers(tmp_path)) == 1
    assert not (tmp_path / "out.parts").exists()
    with files.writing(tmp_path / "out"):
        assert leftovers(tmp_path) == []


@pytest.fixture(params=["file", "folder", "into"])
def way(request):
    return request.param


@pytest.fixture
def target(tmp_path, way):
    """A target with old content."""
    if way == "into":
        (tmp_path / "out").mkdir()
    write(tmp_path / "out", way, "old")
    return tmp_path / "out"


def test_a_killed_writer_leaves_the_old_content_and_the_next_one_removes_its_temporary(tmp_path, target, way):
    killed(target, way)
    assert content(target) == "old"
    (left,) = leftovers(tmp_path)
    write(target, way)
    assert content(target) == "newest"
    assert not left.exists()
    assert leftovers(tmp_path) == []


def test_a_second_writer_is_refused_while_the_first_is_running(tmp_path, target, way):
    with start(target, way, "wait") as process:
        assert process.stdout.readline() == "half\n"
        (half,) = leftovers(tmp_path)
        with pytest.raises(InputError, match=rf"one run at a time, got one that is running \(process {process.pid} on"):
            write(target, way)
        assert content(target) == "old"
        assert half.exists()
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert content(target) == "new"
    write(target, way)
    assert content(target) == "newest"
    assert leftovers(tmp_path) == []


def test_a_temporary_of_this_process_is_kept(tmp_path):
    def outer(part):
        files.write_bytes(tmp_path / "a", b"inner")
        assert part.exists()
        part.write_text("outer")

    files.write_file(tmp_path / "a", outer)
    assert (tmp_path / "a").read_text() == "outer"


def test_a_folder_whose_replacement_was_killed_is_restored(tmp_path):
    files.write_folder(tmp_path / "out", "marker", lambda part: (part / "marker").write_text("old"))
    killed(tmp_path / "out", "swap")
    assert not (tmp_path / "out").exists()
    with files.writing(tmp_path / "out"):
        assert content(tmp_path / "out") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_other_names_are_no_leftovers(tmp_path):
    others = {".b.1-a.partial", "a.partial", ".a.partial", ".a.1-a.tmp", "a.1-a.partial", ".a.b.1-a.partial"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".a.1-a.partial").touch()
    files.write_bytes(tmp_path / "a", b"")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", *others}


def test_a_write_that_fails_leaves_the_old_content(tmp_path, target, way, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"out needs more free disk space, got .* GB; name another place"):
        write(target, way)
    assert content(target) == "old"
    assert leftovers(tmp_path) == []


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Each rename comes after the content was synchronized, and the folder around it is synchronized last."""
    steps = []
    sync, replace, rename = files.sync, Path.replace, Path.rename
    monkeypatch.setattr(files, "sync", lambda path: (steps.append(("sync", path.name)), sync(path)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append(("rename", to.name)), replace(self, to))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (steps.append(("rename", to.name)), rename(self, to))[1])
    files.write_bytes(tmp_path / "a", b"x")
    part = steps[0][1]
    assert steps == [("sync", part), ("rename", "a"), ("sync", tmp_path.name)]
    steps.clear()

    def fill(folder):
        (folder / "inner").mkdir()
        (folder / "inner" / "deep").touch()
        (folder / "marker").touch()

    files.write_folder(tmp_path / "b", "marker", fill)
    assert {name for _, name in steps[:4]} == {"inner", "deep", "marker", steps[3][1]}
    assert steps[3][1].startswith(".b.")
    assert steps[4:] == [("rename", "b"), ("sync", tmp_path.name)]
    steps.clear()
    files.write_into(tmp_path / "b", lambda part: [(part / name).write_text("") or name for name in ("x", "y")])
    assert steps == [("sync", "x"), ("sync", "y"), ("rename", "x"), ("rename", "y"), ("sync", "b")]
    assert sorted(entry.name for entry in (tmp_path / "b").iterdir()) == ["inner", "marker", "x", "y"]


def test_a_folder_in_the_way_of_a_file_is_one_sentence(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"a must be writable, got 'is a directory'; name another place"):
        files.write_bytes(tmp_path / "a", b"")
    with pytest.raises(InputError, match=r"b must be writable, got 'no such file or directory'"):
        files.write_bytes(tmp_path / "none" / "b", b"")
