"""Results have a type for each kind, whose fields are the arrays and settings of that kind."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import InputError, Result
from mixtral_probe.trace import AblationResult, SubsetsResult, TimingResult

KEPT = np.array([[True, True, False], [True, False, True], [False, True, True]])


def subsets() -> SubsetsResult:
    meta = {"sampled": 9, "experts_per_token": 2}
    return SubsetsResult.of({"error": np.arange(6.0).reshape(2, 3) / 10, "kept": KEPT}, meta=meta)


def test_fields_are_arrays_and_settings_and_name_the_axes():
    result = subsets()
    assert result.kind == "expert_subsets"
    assert result.keys == {"error": ("layer", "subset"), "kept": ("subset", "expert")}
    np.testing.assert_array_equal(result.kept, KEPT)
    assert result.error is result["error"]
    assert result.sampled == 9


def test_a_saved_result_has_its_type_again(tmp_path):
    path = subsets().save(tmp_path / "a.result")
    for loaded in (Result.load(path), SubsetsResult.load(path)):
        assert type(loaded) is SubsetsResult
        np.testing.assert_array_equal(loaded.error, subsets().error)
    with pytest.raises(InputError, match="is made of a result of the kind 'timing', got one of 'expert_subsets'"):
        TimingResult.load(path)


def test_an_absent_array_is_an_error_in_a_sentence():
    result = AblationResult.of({"nll": np.ones(2)}, meta={"experts": 4})
    with pytest.raises(InputError, match="a result of 'ablation' has the arrays nll, got 'placebo'"):
        _ = result.placebo
    assert result.num_experts == 4


def test_a_kind_has_one_type():
    with pytest.raises(InputError, match="a result of 'timing' is of the type TimingResult, got Result"):
        Result("timing", {"a": np.ones(2)}, {"a": ("run",)})
    with pytest.raises(InputError, match="a result of 'other' is of the type Result, got TimingResult"):
        TimingResult("other", {"a": np.ones(2)}, {"a": ("run",)})


def test_every_kind_has_a_table_a_csv_and_a_figure(tmp_path):
    result = subsets()
    table = result.table()
    assert table["metric"].unique().tolist() == ["subset_error"]
    assert len(pd.read_csv(result.to_csv(tmp_path / "subsets.csv"))) == len(table) == 6
    assert result.figure().data
    with pytest.raises(InputError, match="a result of 'other' has no table; read its arrays"):
        Result("other", {"a": np.ones(2)}, {"a": ("run",)}).table()
