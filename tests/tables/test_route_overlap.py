"""Experts that two tokens have in common, against routing written down by hand."""

from itertools import combinations

import numpy as np
import pytest

from mixtral_probe import InputError, Trace, figures, metrics, tables

IDS = [[[0, 1], [1, 0], [2, 3]], [[1, 2], [2, 3], [0, 3]], [[0, 3], [1, 2], [-1, -1]]]


def written() -> Trace:
    return Trace.from_arrays(expert_ids=np.array(IDS), num_experts=4, document=[0, 0, 1])


def of(table, metric):
    return table[table["metric"] == metric]


def test_two_tokens_share_what_is_written():
    table = tables.route_overlap(written(), 0, 1)
    shared, jaccard = of(table, "shared_experts"), of(table, "set_jaccard")
    # {0,1} and {1,0}; {1,2} and {2,3}; {0,3} and {1,2}; then all layers.
    assert shared["value"].tolist() == [2, 1, 0, 3]
    assert shared["null"].tolist() == [1, 1, 1, 3]
    assert jaccard["value"].tolist() == pytest.approx([1, 1 / 3, 0, 4 / 9])
    # Of the 6 pairs of 4 experts 1 is the same, 4 have one in common, of 3 in either: (1 + 4/3) / 6.
    assert jaccard["null"].tolist() == pytest.approx([7 / 18] * 4)
    assert shared["layer"].tolist()[:3] == [0, 1, 2]
    assert shared["layer"].isna().tolist() == [False, False, False, True]
    assert table["n"].unique().tolist() == [2]
    assert table[["low", "high"]].isna().all(axis=None)


def test_a_layer_in_which_one_went_to_no_expert_has_no_value():
    shared = of(tables.route_overlap(written(), 0, 2), "shared_experts")
    assert shared["value"].isna().tolist() == [False, False, True, False]
    assert shared["value"].iloc[-1] == 0
    assert shared["null"].iloc[-1] == 2
    assert shared["n"].tolist() == [2, 2, 0, 2]
    assert shared["scope"].iloc[2].endswith("not enough data: one went to no expert")
    assert shared["scope"].iloc[3].endswith("sum of 2 layers")


def test_a_token_shares_all_with_itself_and_the_order_does_not_matter():
    assert (of(tables.route_overlap(written(), 1, 1), "set_jaccard")["value"] == 1).all()
    there, back = tables.route_overlap(written(), 0, 1), tables.route_overlap(written(), 1, 0)
    assert there["value"].tolist() == back["value"].tolist()


def test_the_null_of_sets_of_different_sizes_is_the_mean_over_all_pairs_of_sets():
    for k, m in [(1, 2), (2, 2), (3, 1), (2, 4)]:
        pairs = [(set(a), set(b)) for a in combinations(range(5), k) for b in combinations(range(5), m)]
        expected = np.mean([len(a & b) / len(a | b) for a, b in pairs])
        assert metrics.uniform_sets(metrics.set_jaccard, 5, k, m) == pytest.approx(expected)


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_told(row):
    with pytest.raises(InputError, match=rf"row must be in 0–2 \(there are 3 tokens\), got {row}"):
        tables.route_overlap(written(), 0, row)


def test_the_figure_has_a_bar_for_every_layer_and_the_null():
    bars, null = figures.route_overlap(tables.route_overlap(written(), 0, 1)).data
    assert bars.y.tolist() == [2, 1, 0]
    assert bars.text.tolist() == ["2", "1", "0"]
    assert null.y.tolist() == [1, 1, 1]
