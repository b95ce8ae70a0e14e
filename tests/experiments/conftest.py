"""Fixtures of the experiments."""

import pytest

from mixtral_probe.tables import leave_one_out


@pytest.fixture
def two_documents_are_enough(monkeypatch):
    """Intervals of a few documents, for the tests of what the interval is about."""
    monkeypatch.setattr(leave_one_out, "MIN_DOCUMENTS", 2)
