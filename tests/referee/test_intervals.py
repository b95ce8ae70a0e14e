"""Intervals of tables against those found by removing each document from the raw arrays."""

import numpy as np
import pytest

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.registry import SPECS
from tests.referee import differences, load, losses, specialization, structure, systems
from tests.referee.intervals import differences_from_all, differences_of_two, intervals
from tests.referee.left_out import INTERVALS
from tests.referee.record import LAYERS, grouped, regular, trace_of
from tests.referee.rows import plain

SUBJECTS = {
    load: ("expert_load", "load_by_rank", "balance", "balance_variants", "expert_relevance", "router_confidence"),
    losses: ("balance_loss", "balance_loss_breakdown"),
    structure: ("repetition", "coactivation", "transitions"),
    specialization: ("mutual_information",),
    differences: ("layer_differences",),
    systems: ("cache_simulation", "capacity_simulation", "placement_simulation", "skipping_simulation"),
}
REFEREES = {name: getattr(subject, name) for subject, names in SUBJECTS.items() for name in names}
EXPERTS_AT_MOST = ("effective_experts", "inverse_simpson")
"""Metrics whose range depends on the number of experts."""


def curvature(name):
    """1 / d of a sum of d squares of means or covariances, by the keys and the metric of a row."""
    *keys, metric = name
    ranks = keys[2] if metric == "load_balancing_loss_device" else None
    return {
        "excess": 1, "pooling_gap_layers": 1 / (len(LAYERS) - 1), "load_balancing_loss_device": 1 / ((ranks or 2) - 1),
    }.get(metric, 0)  # fmt: skip


def made(name, record):
    trace, spec = trace_of(record), SPECS[name]
    return spec.function(
        RoutingStats.from_trace(trace, by="domain") if spec.source == "stats" else trace,
        **({} if spec.source == "stats" else {"by": "domain"}),
    )


def compare(name, record, found, least):
    """Compare every interval that the table has and the referee knows, at least so many, and return their metrics.

    What a static cache holds is found once, with all documents; of domains each is a stratum.
    """
    spec, compared, metrics = SPECS[name], 0, set()
    for row in made(name, record).to_dict("records"):
        key = (*plain(row[k] for k in spec.keys), row["metric"])
        if np.isnan(row["low"]) or {"static", "domain"} & {*key} or (name, row["metric"]) in INTERVALS:
            continue
        metrics.add(row["metric"])
        if key in found:
            low, high = spec.metrics[row["metric"]].bounds
            expected = np.clip(found[key], low, record.experts if row["metric"] in EXPERTS_AT_MOST else high)
            np.testing.assert_allclose(
                [row[n] for n in ("corrected", "low", "high")], expected, rtol=1e-9, atol=1e-9, err_msg=str(key)
            )
            compared += 1
    assert compared >= least
    return metrics


SLOW = ("cache_simulation", "mutual_information", "placement_simulation", "repetition")
"""Those whose recomputation for each document takes many seconds."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in REFEREES])
def test_an_interval_is_that_of_removing_each_document(name):
    found = intervals(REFEREES[name], regular(), curvature)
    metrics = compare(name, regular(), found, 3)
    assert metrics <= {metric for *_, metric in found}, "every metric with intervals"


def test_an_interval_with_fixed_shares_is_that_of_removing_each_document_from_its_group():
    compare("domain_specialization", grouped(), differences_from_all(grouped()), 20)


def test_an_interval_of_a_difference_is_that_of_removing_each_document_from_its_group():
    compare("group_differences", grouped(), differences_of_two(grouped()), 20)
