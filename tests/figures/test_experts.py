"""Figures of experts hold exactly the values of their tables."""

from itertools import combinations

import numpy as np
import pytest

from mixtral_probe import InputError, figures, tables
from mixtral_probe.trace import AblationResult, SimilarityResult, SubsetsResult
from tests.support.figures import drawn as numbers

META = {"experts_per_token": 2, "experts": 4, "model": {"hidden_size": 8, "intermediate_size": 6}}


def draw(*shape):
    return np.random.default_rng(sum(shape)).uniform(1, 2, size=shape)


def ablated():
    sums = {name: draw(3, 4, 5) * factor for name, factor in (("ablated", 12), ("routed", 3))}
    sums |= {"draws": sums["ablated"] + draw(7, 3, 4, 5) - 1.5, "log_arrangements": draw(3, 4, 5) * 9}
    sums["ablated"][1, 1:] += 9  # three experts stand out
    base = {"nll": draw(5) * 10, "tokens": np.full(5, 10.0)}
    labels = {"document": tuple("abcde")}
    meta = META | {"semantics": "mask", "placebos": 7}
    return tables.ablation(AblationResult.of(sums | base, labels, meta))


def similarity():
    names = ("weight_cosine", "neuron_mean_cosine", "gate_cosine")
    pairs = draw(3, 4, 4) - 1.5
    return tables.expert_similarity(
        SimilarityResult.of({name: pairs + pairs.swapaxes(1, 2) for name in names}, meta=META)
    )


def subsets():
    kept = np.array([[e in pair for e in range(4)] for pair in combinations(range(4), 2)] + [[True] * 4])
    error = draw(3, 7) - 0.5
    return tables.expert_subsets(SubsetsResult.of({"kept": kept, "error": error}, meta=META | {"sampled": 9})), error


def test_subsets_are_drawn_with_the_best_and_the_mean():
    table, error = subsets()
    every, best, mean = figures.expert_subsets(table).data
    np.testing.assert_array_equal(np.sort(every.y), np.sort(error[:, :6].ravel()))
    np.testing.assert_array_equal(best.x, [0, 1, 2])
    np.testing.assert_array_equal(best.y, error[:, :6].min(1))
    np.testing.assert_allclose(mean.y, error[:, :6].mean(1))
    assert "2,3" in "".join(every.hovertext)
    np.testing.assert_array_equal(figures.expert_subsets(table, size=4).data[0].y, error[:, 6])
    with pytest.raises(InputError, match="5"):
        figures.expert_subsets(table, size=5)


def test_a_map_of_what_is_lost():
    table = ablated()
    figure = figures.ablation(table)
    own = table[(table["metric"] == "loss_increase_beyond_placebo") & (table["group"] == "all")]
    np.testing.assert_array_equal(figure.data[0].z, numbers(own).reshape(3, 4))
    assert [list(cell) for cell in figure.data[-1].customdata] == own[["layer", "expert"]].astype(
        int
    ).to_numpy().tolist()
    assert "7 draws: " in figure.data[-1].hovertext[0]
    assert ", p 0." in figure.data[-1].hovertext[0]
    rates = table[(table["metric"] == "loss_increase_false_discovery") & (table["group"] == "all")]
    found = rates[rates["value"] < 0.05]
    assert 0 < len(found) < 12
    assert list(zip(figure.data[1].y, figure.data[1].x, strict=True)) == list(
        zip(found["layer"], found["expert"], strict=True)
    )
    ranks = figures.ablation(table, metric="loss_increase_rank")
    assert sorted(ranks.data[0].z.ravel()) == list(range(1, 13))
    assert ranks.layout.title.text == "Without an expert: rank by loss added"
    with pytest.raises(InputError, match="got 'colour'"):
        figures.ablation(table, metric="colour")


def test_pairs_of_experts_have_a_panel_per_layer():
    table = similarity()
    figure = figures.expert_similarity(table)
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(maps) == 3
    for layer, drawn in enumerate(maps):
        own = table[(table["metric"] == "weight_cosine") & (table["layer"] == layer)]
        for row in own.itertuples():
            assert drawn.z[row.expert, row.other_expert] == row.value
        assert np.isnan(np.diag(drawn.z)).all()
