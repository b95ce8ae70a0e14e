"""Intervals of tables against those found by removing each document from the raw arrays."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.registry import SPECS
from tests.referee import load, losses, systems
from tests.referee.intervals import differences_from_all, differences_of_two, intervals
from tests.referee.record import grouped, regular, trace_of

REFEREES = {
    "expert_load": load.expert_load, "load_by_rank": load.load_by_rank, "balance": load.balance,
    "balance_loss": losses.balance_loss, "skipping_simulation": systems.skipping_simulation,
}  # fmt: skip
RANGES = {"effective_experts": (0, 8)}
"""The range of a metric that depends on the number of experts."""


def made(name, record):
    trace, spec = trace_of(record), SPECS[name]
    return spec.function(
        RoutingStats.from_trace(trace, by="domain") if spec.source == "stats" else trace,
        **({} if spec.source == "stats" else {"by": "domain"}),
    )


def compare(name, record, found, least):
    """Compare every interval that the table has and the referee knows; there must be at least so many."""
    spec, compared = SPECS[name], 0
    for row in made(name, record).to_dict("records"):
        key = (*(None if pd.isna(row[k]) else row[k] for k in spec.keys), row["metric"])
        if not np.isnan(row["low"]) and key in found:
            low, high = RANGES.get(row["metric"], spec.metrics[row["metric"]].bounds)
            expected = np.clip(found[key], low, high)
            np.testing.assert_allclose(
                [row[n] for n in ("corrected", "low", "high")], expected, rtol=1e-9, atol=1e-9, err_msg=str(key)
            )
            compared += 1
    assert compared >= least


@pytest.mark.parametrize("name", REFEREES)
def test_an_interval_is_that_of_removing_each_document(name):
    compare(name, regular(), intervals(REFEREES[name], regular()), 5)


def test_an_interval_with_fixed_shares_is_that_of_removing_each_document_from_its_group():
    compare("domain_specialization", grouped(), differences_from_all(grouped()), 20)


def test_an_interval_of_a_difference_is_that_of_removing_each_document_from_its_group():
    compare("group_differences", grouped(), differences_of_two(grouped()), 20)
