"""What every row of a table keeps to."""

import numpy as np


def check_rows(table):
    """Every row has a scope; a value or an interval is missing only where the scope says so."""
    assert table["scope"].notna().all()
    gone = table["value"].isna()
    assert table.loc[gone, "scope"].str.contains("not enough data").all()
    assert (table.loc[gone, "n"] == 0).all()
    without = table["low"].isna()
    assert (without == table["high"].isna()).all()
    assert table.loc[without, "scope"].astype("str").str.contains("no interval|not enough data").all()
    assert np.isfinite(table.loc[~gone, "value"]).all()
