import pytest


@pytest.fixture(scope="session")
def model(toy_path):
    """The folder that `--model` names."""
    return toy_path
