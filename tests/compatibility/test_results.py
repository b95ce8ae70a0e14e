"""Results of an earlier version have the types of their kinds, whose fields name all their arrays and axes."""

import pytest

from mixtral_probe.trace import (
    AblationResult,
    LogitLensResult,
    Result,
    SaliencyResult,
    SimilarityResult,
    SubsetsResult,
    TimingResult,
    WhatIf,
)

TYPES = [AblationResult, SaliencyResult, SimilarityResult, SubsetsResult, TimingResult, LogitLensResult, WhatIf]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.KIND)
def test_a_result_has_the_type_of_its_kind(data, kind):
    result = Result.load(data / "results" / kind.KIND)
    assert type(result) is kind
    for name, axes in result.keys.items():
        assert getattr(kind, name).axes == axes
        assert getattr(result, name) is result[name]
