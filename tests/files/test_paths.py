"""Paths that no operating system can open are refused in one sentence."""

from pathlib import Path

import pytest

from mixtral_probe import InputError
from mixtral_probe.paths import checked_path


def test_the_home_of_the_user():
    assert checked_path("~/a") == Path.home() / "a"
    assert checked_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert checked_path(Path("a") / ("é" * 127)).name == "é" * 127


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("a\0b", r"must have no NUL character, got 'a\\x00b'"),
        ("x" * 256, "got 256 bytes with a name of 256"),
        ("é" * 128, "got 256 bytes with a name of 256"),
        ("abc/" * 1250, "must have at most 4095 bytes .*, got 5000 bytes"),
        ("a\ud800", "must be valid Unicode"),
    ],
)
def test_what_cannot_be_opened(path, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        checked_path(path)
    assert len(str(caught.value)) < 300
