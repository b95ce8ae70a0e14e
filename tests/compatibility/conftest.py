import json
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of what an earlier version wrote; tests copy what they write to."""
    return DATA


@pytest.fixture(scope="session")
def expected() -> dict:
    """What the earlier version read in it."""
    return json.loads((DATA / "expected.json").read_text())
