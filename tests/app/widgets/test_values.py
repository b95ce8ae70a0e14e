"""Cards show the number that the interval is about, and the published formula's in their help."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.app_traces import card_values, clean, texts


def one_card(corrected: float | None) -> None:
    import numpy as np
    import pandas as pd

    from app.widgets import values

    row = {"value": 1.029, "low": 0.9635, "high": 1.028, "null": 1.0, "n": 1200, "scope": "layer 3"}
    values.card(pd.Series(row | {"corrected": np.nan if corrected is None else corrected}), "load_balancing_loss")


def drawn(corrected):
    return clean(AppTest.from_function(one_card, kwargs={"corrected": corrected}).run())


def test_the_number_lies_in_its_interval_and_the_formulas_own_is_in_the_help():
    test = drawn(0.9958)
    assert float(*card_values(test).values()) == pytest.approx(0.9958, abs=5e-4)
    assert "without correction for few documents: 1.03" in test.metric[0].help.replace("1.029", "1.03")
    assert "95 %: 0.96" in texts(test)


def test_without_a_corrected_number_the_formulas_own_is_shown():
    test = drawn(None)
    assert float(*card_values(test).values()) == pytest.approx(1.029, abs=5e-3)
    assert "without correction" not in test.metric[0].help
