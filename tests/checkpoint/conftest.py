import pytest

from tests.support.models import toy_model


@pytest.fixture
def folder(tmp_path):
    """A toy model on disk, which a test may change."""
    toy_model().save_pretrained(tmp_path)
    return tmp_path
