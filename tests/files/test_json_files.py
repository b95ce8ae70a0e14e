"""Whatever a file holds instead of a JSON object, one sentence says it."""

from pathlib import Path

import pytest

from mixtral_probe import InputError
from mixtral_probe.json_files import read_json_object


def test_an_object(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1, "\xc3\xa9"]}')
    assert read_json_object(tmp_path / "a.json") == {"a": [1, "é"]}


@pytest.mark.parametrize("path", ["none.json", "a.json/none.json"])
def test_none(tmp_path, path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        read_json_object(tmp_path / path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "must be valid JSON, got .* with an error: "),
        (b"\xff", "must be valid JSON, got .* with an error: "),
        (b"[1]", "must hold one JSON object, got .* with a list"),
        (b'{"a": ' * 200_000, "nested too deep"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "must be valid JSON, got .* with an error: .*digits"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a pointer of Git LFS, 43 bytes .* git lfs pull"),
    ],
)
def test_other_content(tmp_path, content, sentence):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_json_object(path)


def test_a_folder(tmp_path):
    with pytest.raises(InputError, match="must be a file that can be read, got 'is a directory'"):
        read_json_object(tmp_path)


def test_a_file_without_end():
    with pytest.raises(InputError, match="zero must be a file, got a device; copy its content into a file"):
        read_json_object(Path("/dev/zero"))


def test_a_file_that_is_too_large(tmp_path):
    with (path := tmp_path / "a.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match=r"a\.json must have at most 64 MiB, got more in "):
        read_json_object(path)
