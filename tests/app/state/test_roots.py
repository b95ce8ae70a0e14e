"""Paths that are typed: below the allowed folders, and what no system can open in one sentence."""

import pytest

from app.state import roots
from mixtral_probe import InputError
from tests.support.models import toy_model


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(roots, "arguments", lambda: [f"{roots.OPTION}{tmp_path}"])
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("a\0b", "a path must have no NUL character"),
        ("x" * 5000, "a path must have at most 4095 bytes and a name in it at most 255, got 5000 bytes"),
        ("inner/" * 682, "a path must have at most 4095 bytes"),
        ("../elsewhere", "a path must lie below .*, got '../elsewhere'"),
        ("nothing", "name one that exists there"),
    ],
)
def test_paths_that_cannot_be(allowed, typed, sentence):
    with pytest.raises(InputError, match=sentence):
        roots.resolve(typed)


def test_a_path_below_an_allowed_folder(allowed):
    (allowed / "trace").mkdir()
    assert roots.resolve(" trace ") == roots.resolve(str(allowed / "trace")) == allowed / "trace"


@pytest.mark.parametrize("name", ["pytorch_model-00001-of-00002.bin", "consolidated.00.pt", "model.safetensors"])
def test_models_of_every_layout_are_listed(allowed, name):
    folder = allowed / "deep" / "model"
    folder.mkdir(parents=True)
    toy_model().config.save_pretrained(folder)
    assert roots.model_folders() == []
    (folder / name).write_bytes(b"")
    assert roots.model_folders() == [folder]
