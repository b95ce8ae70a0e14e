"""The tokens of an expert, against routing written down by hand."""

import numpy as np
import pytest

from mixtral_probe import InputError, Trace, tables

IDS = [[[0, 1], [2, 0], [1, 2], [0, 2], [1, 0]], [[1, 2], [1, 2], [0, 1], [2, 1], [2, 1]]]
WEIGHTS = [[[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.55, 0.45]], [[0.5, 0.5]] * 5]


def written() -> Trace:
    return Trace.from_arrays(
        expert_ids=np.array(IDS), expert_weights=np.array(WEIGHTS), router_logits=np.log(np.full((2, 5, 3), [1, 2, 5])),
        token_ids=np.arange(5), document=[0, 0, 0, 1, 1], num_experts=3, piece=["a", " b", " c", "d", "\n"],
    )  # fmt: skip


def test_the_tokens_of_an_expert_in_the_order_of_the_text():
    table = tables.expert_choices(written(), expert=0, layer=0)
    assert table["document"].tolist() == [0, 0, 1, 1]
    assert table["position"].tolist() == table["row"].tolist() == [0, 1, 0, 1]
    assert table["token"].tolist() == ["a", " b", "d", "\n"]
    assert table["before"].tolist() == ["", "a", "", "d"]
    assert table["after"].tolist() == [" b c", " c", "\n", ""]
    assert table["rank"].tolist() == [0, 1, 0, 1]
    assert table["weight"].tolist() == pytest.approx([0.9, 0.2, 0.6, 0.45])
    assert table["probability"].tolist() == pytest.approx([1 / 8] * 4)
    assert table["n"].tolist() == [4] * 4


def test_the_strongest_of_any_layer():
    table = tables.expert_choices(written(), expert=0, strongest=2)
    assert table["weight"].tolist() == pytest.approx([0.9, 0.6])
    assert table["n"].tolist() == [5, 5]
    assert tables.expert_choices(written(), expert=0)["layer"].tolist() == [0, 0, 1, 0, 0]


def test_without_weights_logits_and_texts():
    bare = Trace.from_arrays(expert_ids=np.array(IDS), num_experts=3, token_ids=np.arange(5))
    table = tables.expert_choices(bare, expert=0, strongest=1)
    assert table["rank"].tolist() == [0]
    assert table["token"].tolist() == ["⟨id 0⟩"]
    assert table[["weight", "probability"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"expert": 3}, r"expert must be in 0–2 \(there are 3\), got 3"),
        ({"expert": 0, "layer": 5}, "layer must be one of 0, 1, got 5"),
        ({"expert": 0, "strongest": 0}, "strongest must be at least 1, got 0"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(asked, sentence):
    with pytest.raises(InputError, match=sentence):
        tables.expert_choices(written(), **asked)
