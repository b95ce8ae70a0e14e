"""What is given for the folder of a trace or of a result, and sentences of the operating system's errors."""

import errno
import os

import pytest

from mixtral_probe import InputError, RoutingStats, Trace
from mixtral_probe.files import plain_errors
from mixtral_probe.instruments import edits
from mixtral_probe.trace import Result


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("routes.csv", "a table"), ("routes.parquet", "a table"), ("logits.pt", "a file of torch"),
        ("logits.NPZ", "arrays of NumPy"), ("stats.safetensors", "a file of tensors"), ("a.pkl", "a pickle"),
        ("a.zip", "an archive"), ("notes", "a file of another kind"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("load", [Trace.load, Result.load])
def test_a_file_for_a_folder(tmp_path, load, name, kind):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"must be given, got the file .*{name}, {kind}.*; a trace is such a folder"):
        load(tmp_path / name)


def test_the_description_for_its_folder(tmp_path):
    (tmp_path / "trace.json").write_text("{}")
    with pytest.raises(InputError, match=rf"got that file, .*; give {tmp_path}$"):
        Trace.load(tmp_path / "trace.json")


BAD_PATHS = {"NUL": "a\0b", "long": "y/" * 2500, "long name": "z" * 300}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS)
@pytest.mark.parametrize(
    "use",
    [Trace.load, Result.load, RoutingStats.load, edits.load, lambda path: edits.save([], path)],
    ids=["trace", "result", "statistics", "edits", "save edits"],
)
def test_paths_that_cannot_be_opened(use, path):
    with pytest.raises(InputError, match="a path must have"):
        use(path)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "writing .* needs 2 GB of free disk space, got"),
        (errno.EDQUOT, "a file of 2 GB must fit into the quota of this account, got one beyond it"),
        (errno.EFBIG, r"a file of 2 GB must fit into the largest file allowed \(ulimit -f\), got one beyond it"),
        (errno.EROFS, "must be writable, got 'read-only file system'"),
    ],
)
def test_each_reason_has_its_remedy(tmp_path, number, sentence):
    with pytest.raises(InputError, match=sentence), plain_errors(tmp_path / "x", 2 * 10**9):
        raise OSError(number, os.strerror(number))
