"""The number of ways in which a placebo can turn out, against counting them."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest

from mixtral_probe.experiments.arrangements import MANY, dealt_arrangements, exchanged_arrangements


def dealt(order, ranks, tokens):
    """The damaged (token, rank) pairs when ranks are dealt out in an order of tokens, again and again."""
    return frozenset((order[place % tokens], rank) for place, rank in enumerate(ranks))


@pytest.mark.parametrize(
    ("tokens", "touched"), [(5, (2, 0)), (5, (1, 2)), (4, (3, 1)), (4, (3, 3)), (3, (3, 2)), (3, (3, 3)), (2, (0, 0))]
)
def test_arrangements_are_as_many_as_can_be_told_apart(tokens, touched):
    ranks = [rank for rank, number in enumerate(touched) for _ in range(number)]
    known = {dealt(order, ranks, tokens) for order in permutations(range(tokens))}
    given = np.array([[token < number for number in touched] for token in range(tokens)])
    assert dealt_arrangements(given) == len(known)


def test_many_arrangements_are_counted_up_to_a_million():
    assert dealt_arrangements(np.arange(60)[:, None] < [20, 0]) == MANY


@pytest.mark.parametrize("tokens", [0, 1, 2, 3, 5])
def test_tokens_exchange_their_weights_in_one_circle(tokens):
    circles = {
        frozenset(zip(order, (*order[1:], order[0]), strict=True)) for order in permutations(range(tokens))
    } if tokens else {frozenset()}  # fmt: skip
    assert exchanged_arrangements(tokens) == len(circles) == factorial(max(tokens - 1, 0))
    assert exchanged_arrangements(200) == MANY
