"""A box of layers and experts as the beginning of an expression."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtral_probe.selection import SelectionError, boxed, mask, parse, unboxed
from tests.support.routing import random_trace
from tests.support.selections import trees


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", "layer in 0..1 and expert in {2, 4..5}"),
        ("  ", "layer in 0..1 and expert in {2, 4..5}"),
        ("token.is_digit", "layer in 0..1 and expert in {2, 4..5} and token.is_digit"),
        ("layer == 3 or nll > 5", "layer in 0..1 and expert in {2, 4..5} and (layer == 3 or nll > 5)"),
        ("layer in 2..5 and @late", "layer in 0..1 and expert in {2, 4..5} and (layer in 2..5 and @late)"),
        ("layer in {7} and expert in 0..3", "layer in 0..1 and expert in {2, 4..5}"),
        ("layer in 7..8 and expert in 0..3 and nll > 5", "layer in 0..1 and expert in {2, 4..5} and nll > 5"),
    ],
)
def test_a_box_comes_first_and_takes_the_place_of_one_before(where, expected):
    assert boxed(where, [1, 0], [5, 2, 4], slices={"late": "position > 9"}) == expected


@pytest.mark.parametrize(
    "where", ["", "layer in 0..1", "expert in 2..3 and layer in 0..1", "nll > 5 and layer in 0..1"]
)
def test_an_expression_without_a_box_has_none_to_take_away(where):
    assert unboxed(where) is None


def test_a_box_by_itself_leaves_nothing():
    assert unboxed("layer in 0..1 and expert in 2..3") == ""


@given(trees, st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 9), min_size=1))
@settings(deadline=None)
def test_what_was_said_before_a_box_comes_back(tree, layers, experts):
    once = boxed(str(tree), layers, experts)
    if unboxed(str(tree)) is None:
        assert parse(unboxed(once)).root == tree
    assert boxed(once, [0], [1]) == boxed(str(tree), [0], [1])


def test_a_box_keeps_every_token_that_chose_one_of_its_experts():
    trace = random_trace(layers=3, experts=6)
    kept = mask(trace, boxed("position > 9", [0, 2], [1, 4]))
    chose = np.isin(trace.expert_ids, [1, 4]).any(-1)
    chose[1] = False
    np.testing.assert_array_equal(kept, chose & (trace.tokens["position"].to_numpy() > 9))


def test_a_mistake_is_told_of():
    with pytest.raises(SelectionError, match="write == to compare"):
        boxed("layer = 1", [0], [1])
