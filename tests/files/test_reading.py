"""Files that anyone may have made: what is no file is refused before it is opened, and every error is a sentence."""

import os
import pickle
from pathlib import Path

import pytest

from mixtral_probe import InputError
from mixtral_probe.errors import LONGEST
from mixtral_probe.reading import one_sentence, read_bounded


def test_content_up_to_the_bound(tmp_path):
    (path := tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(InputError, match=r"a must have at most 3\.8147e-06 MiB, got more in "):
        read_bounded(path, 4)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "b", 4)


def test_a_file_of_the_system_is_bounded_though_its_size_is_0():
    with pytest.raises(InputError, match="must have at most"):
        read_bounded(Path("/proc/self/status"), 10)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe must be a file, got a pipe; copy its content into a file"):
        read_bounded(tmp_path / "pipe", 10)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("no digit.\nmore"), "a thing must be whole, got x.bin with an error: no digit; copy it again"),
        (OverflowError(), "a thing must be whole, got x.bin with an error: OverflowError; copy it again"),
        (KeyError("shape"), "a thing must be whole, got x.bin without 'shape'; copy it again"),
        (RecursionError("maximum"), "a thing must be whole, got x.bin, nested too deep; copy it again"),
        (MemoryError(), "a thing must be whole, got x.bin, which needs more memory than there is; copy it again"),
        (InputError("another rule"), "another rule"),
    ],
)
def test_every_error_of_a_parser_is_one_sentence(error, sentence):
    with pytest.raises(InputError) as caught, one_sentence("a thing must be whole", "x.bin", "copy it again"):
        raise error
    assert str(caught.value) == sentence


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_passes(stop):
    with pytest.raises(stop), one_sentence("a thing must be whole", "x.bin", "copy it again"):
        raise stop


def test_the_text_of_an_error_can_be_printed_and_is_short():
    assert str(InputError("got '\ud800é'")) == r"got '\ud800é'"
    text = str(InputError("a" * 10**6 + "; end"))
    assert len(text) < LONGEST
    assert text.endswith("aaa; end")
    assert str(pickle.loads(pickle.dumps(InputError(text)))) == text
