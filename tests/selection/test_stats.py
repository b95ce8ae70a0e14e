"""Statistics, tables, reports and the command line of a selection."""

import json

import numpy as np
import pandas as pd
import pytest

import mixtral_probe as mp
from mixtral_probe import InputError, RoutingStats, tables
from mixtral_probe.selection import mask
from mixtral_probe.stats import routing_stats
from tests.support.app_traces import routed_trace
from tests.support.cli import run


def test_the_load_of_a_selection_is_counted_from_its_rows():
    trace = routed_trace()
    where = 'layer in 1..2 and token.number in 5..40 and domain == "code"'
    load = tables.expert_load(RoutingStats.from_trace(trace, by="domain", where=where))
    place = np.tile(np.arange(60), 4)
    code = np.repeat([True, False, True, False], 60) & (place >= 5) & (place <= 40)
    shares = load[(load["metric"] == "share") & (load["group"] == "all")]
    for layer in (1, 2):
        counts = np.bincount(trace.expert_ids[layer, code].ravel(), minlength=4)
        assert shares[shares["layer"] == layer]["value"].tolist() == pytest.approx(counts / counts.sum())
        assert set(shares[shares["layer"] == layer]["n"]) == {code.sum()}
    assert set(shares[shares["layer"] == 0]["n"]) == {0}
    assert all(f"where {where}" in scope for scope in load["scope"])


def test_documents_selected_by_an_expression_or_by_number_have_the_same_statistics():
    trace = routed_trace()
    by_where, by_number = RoutingStats.from_trace(trace, where="document in {0, 2}"), RoutingStats.from_trace(
        trace.select([0, 2])
    )  # fmt: skip
    for name, of_where in by_where.sums.arrays().items():
        assert np.allclose(of_where, by_number.sums.arrays()[name], rtol=1e-12), name
    for name, counts in by_where.structure.arrays().items():
        assert (counts == by_number.structure.arrays()[name]).all(), name
    assert (by_where.histogram == by_number.histogram).all()
    assert (by_where.affinity.counts.sum((1, 2)) == by_number.affinity.counts.sum((1, 2))).all()


@pytest.mark.parametrize("where", ["layer == 99", "token.is_special"])
def test_statistics_of_nothing_are_zero_and_every_table_stands_them(where):
    stats = RoutingStats.from_trace(routed_trace(), by="domain", where=where)
    assert stats.sums.tokens.sum() == stats.sums.load.sum() == stats.structure.repeats.sum() == 0
    for spec in tables.TABLES.values():
        if spec.source == "stats":
            table = spec.function(stats)
            assert "n" not in table or not table["n"].any(), spec.name


def test_a_lag_does_not_step_over_what_is_not_meant():
    trace = routed_trace()
    repeats = RoutingStats.from_trace(trace, where="token.number != 30").structure.repeats.sum((1, 2, 4, 5))
    # Of 60 tokens 59 pairs stand side by side; two of them hold number 30, and so do lag + 1 of each lag.
    assert repeats[0].tolist() == [4 * (60 - lag - (lag + 1)) for lag in range(1, 9)]


def test_selections_partition_what_they_count():
    trace = routed_trace()
    parts = [RoutingStats.from_trace(trace, where=where) for where in ("margin < 0.3", "not margin < 0.3")]
    whole = RoutingStats.from_trace(trace).sums.arrays()
    for name, total in whole.items():
        assert np.allclose(sum(part.sums.arrays()[name].sum((1, 2)) for part in parts), total.sum((1, 2))), name


def test_tables_of_single_tokens_hold_what_is_meant():
    trace = routed_trace()
    where = "choice[0] == 2"
    kept = mask(trace, where)
    losses = tables.balance_loss_tokens(mp.select(trace, where))
    assert len(losses) == kept.sum()
    # The mean of the parts is the loss of the layer: E sum of f P over the tokens meant.
    stats = RoutingStats.from_trace(trace, where=where)
    loss = tables.balance_loss(stats).query("metric == 'load_balancing_loss'").set_index("layer")["value"]
    assert losses.groupby("layer")["value"].mean().tolist() == pytest.approx(loss.dropna().tolist())


def test_statistics_of_a_selection_are_saved_and_merged_with_their_like(tmp_path):
    first, second = routed_trace(0), routed_trace(1)
    stats = RoutingStats.from_trace(first, where="layer == 1")
    stats.save(tmp_path / "stats")
    assert RoutingStats.load(tmp_path / "stats").where == "layer == 1"
    assert stats.update(second).where == "layer == 1"
    with pytest.raises(InputError, match="the same expression, got layer == 1 and None"):
        stats.merge(RoutingStats.from_trace(second))


def test_statistics_beside_a_trace_are_not_taken_for_those_of_a_selection(tmp_path):
    trace = mp.Trace.load(routed_trace().save(tmp_path / "a.trace"))
    routing_stats(trace).save(trace.path / "stats.safetensors")
    assert routing_stats(trace, "layer == 1").sums.tokens.sum((1, 2)).tolist() == [0, 240, 0]


def test_a_report_of_a_selection(tmp_path):
    trace = routed_trace()
    mp.write_report([trace], tmp_path / "some", html=True, where="layer == 1")
    routes = pd.read_csv(tmp_path / "some" / "routes.csv")
    assert set(routes["layer"]) == {1}
    assert len(routes) == 480
    load = pd.read_csv(tmp_path / "some" / "expert_load.csv")
    assert load[load["layer"] == 1]["scope"].str.contains("where layer == 1").all()
    told = json.loads((tmp_path / "some" / "report.json").read_text())
    assert told["where"] == "layer == 1"
    assert "cannot be narrowed" in told["left_out"]["attention_summary"]
    assert "layer == 1" in (tmp_path / "some" / "report.html").read_text()


def test_the_command_line_takes_an_expression_and_points_at_mistakes(tmp_path):
    path = routed_trace().save(tmp_path / "a.trace")
    done = run("report", path, "--out", tmp_path / "out", "--where", 'domain == "code"', "--tables", "routes")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "out" / "routes.csv")["document"]) == {0, 2}
    wrong = run("report", path, "--out", tmp_path / "no", "--where", "layer = 1")
    assert wrong.exit_code == 2
    assert wrong.stderr.splitlines()[0] == 'mixtral-probe: the language has no "="; write == to compare'
    assert wrong.stderr.splitlines()[1:] == ["  layer = 1", "        ^"]
    assert not (tmp_path / "no").exists()


def test_a_saved_selection_keeps_its_expression(tmp_path):
    selected = mp.select(routed_trace(), "position in 0..9")
    again = mp.Trace.load(selected.save(tmp_path / "a.trace"))
    assert again.where == "position in 0..9"
    np.testing.assert_array_equal(again.expert_ids, selected.expert_ids)
    assert mp.select(again, "expert == 1").where == "(position in 0..9) and (expert == 1)"
    assert mp.Trace.load(routed_trace().save(tmp_path / "b.trace")).where is None
