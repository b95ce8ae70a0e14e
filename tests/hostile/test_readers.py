"""Every reader takes what anyone may have made: it returns or refuses with a sentence, soon and in little memory."""

import pytest

from tests.hostile.outcome import tried
from tests.hostile.readers import READERS


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_some_inputs(reader):
    check(tried(reader, range(12)))


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_many_inputs(reader):
    check(tried(reader, range(12, 400)))


def check(figures):
    assert not figures.faults, "\n".join(figures.faults.values())
    assert figures.inputs == figures.refused + figures.accepted
    assert figures.peak_bytes < 10**9
