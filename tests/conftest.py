"""What tests of several rooms share. Heavy packages are imported where a fixture needs them."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: bit-equality holds for one number of threads
settings.register_profile("tests", deadline=None)  # the machine may be busy
settings.load_profile("tests")


@pytest.fixture(scope="session")
def tokenizer():
    """The embedded model's."""
    from mixtral_probe import Tokenizer
    from mixtral_probe.resources import data_path

    return Tokenizer.from_folder(data_path("mixtral-mini"))


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory):
    """A random model of 3 layers and 8 experts on disk, with the embedded model's tokenizer; tests only read it."""
    from tests.support.cli import toy_folder

    return toy_folder(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="session")
def small_probe(tokenizer):
    """A random model of 2 layers and 8 experts in memory."""
    from mixtral_probe import Probe
    from tests.support.models import toy_model

    return Probe(toy_model(vocab_size=8192, num_local_experts=8, num_experts_per_tok=2), tokenizer, "toy")


def pytest_collection_modifyitems(items):
    """Refuse names that differ between two processes, which cannot share such tests."""
    if named := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"the name of a test must not hold an address, got {named[0]}; give it an id")
