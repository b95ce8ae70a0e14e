"""`mixtral-probe parity`: agrees on random models and on a folder, and says so when something does not."""

import json
import sys

import pytest
import torch

from mixtral_probe.parity import parity as room
from mixtral_probe.parity.random_config import random_config, random_input
from tests.support.cli import refused, run


def test_random_models_and_a_folder_agree(toy_path):
    result = run("parity", "--model", toy_path, "--rounds", 3, "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert facts["met"]
    assert facts["rounds"] == 6
    assert facts["transformers"].startswith("5.")
    rows = {(row["numerics"], row["output"]): row for row in facts["differences"]}
    assert len(rows) == 10
    for output in ("logits", "hidden_states", "router_logits", "attentions"):
        assert rows["reference", output]["largest"] == rows["reference", output]["limit"] == 0
        assert 0 <= rows["fast", output]["largest"] < 1e-4
    assert facts["routing"]["reference"]["choices"] == facts["routing"]["fast"]["choices"] > 50
    assert facts["routing"]["reference"]["different"] == 0


def test_the_same_seed_gives_the_same_rounds():
    first, again, other = (run("parity", "--rounds", 2, "--seed", seed).stdout for seed in (4, 4, 5))
    assert first == again
    assert first != other
    assert first.splitlines()[-1] == "everything agrees"


def test_a_difference_is_a_miss(monkeypatch):
    right = room._ours

    def wrong(config, weights):
        weights = {name: w + 0.3 * torch.randn_like(w) if "gate.weight" in name else w for name, w in weights.items()}
        return right(config, weights)

    torch.manual_seed(0)
    monkeypatch.setattr(room, "_ours", wrong)
    result = run("parity", "--rounds", 3)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert sum(line.endswith("MISSED") for line in lines) >= 4
    assert any("the smallest margin of the others is " in line for line in lines)
    assert lines[-1] == "something differs too much"
    assert not json.loads(run("parity", "--rounds", 1, "--json").stdout)["met"]


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "transformers, which is not installed; install it with: pip install transformers" in refused("parity")


def test_a_folder_that_transformers_cannot_read(tmp_path):
    assert "does not exist" in refused("parity", "--model", tmp_path / "nowhere", "--rounds", 1)
    (tmp_path / "config.json").write_text("{}")
    assert "transformers must be able to read the model" in refused("parity", "--model", tmp_path, "--rounds", 1)


def test_margins_of_other_choices_by_hand():
    theirs = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.5], [1.0, 2.0, 3.0]])
    ours = torch.tensor([[2.0, 3.0, 1.0], [3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    assert room._other_choices(ours, theirs, 2) == [0.5]
    assert room._other_choices(ours, theirs, 1) == [1.0]
    assert room._other_choices(ours, theirs, 3) == []


def test_a_tie_that_went_the_other_way_is_counted_but_is_no_miss():
    class Out:
        def __init__(self, logits):
            self.router_logits, self.logits = (logits,), logits[None] * 9
            self.hidden_states = self.attentions = ()
            self.aux_loss = torch.tensor(0.0)

    found = room._Comparison()
    theirs, ours = torch.tensor([[1.0, 1.00001], [0.0, 5.0]]), torch.tensor([[1.00001, 1.0], [0.0, 5.0]])
    found.add(Out(ours), Out(theirs), None, 1, share=True)
    assert (found.routing().choices, found.routing().different, found.routing().missed) == (2, 1, 0)
    assert found.routing().smallest_margin == pytest.approx(1e-5, rel=0.05)
    assert found.largest["logits"] == 0
    found.add(Out(ours - torch.tensor([0.0, 1.0])), Out(theirs), None, 1, share=True)
    assert found.routing().missed == 0
    assert found.largest["logits"] == 0


def test_random_models_are_of_every_kind():
    import numpy as np

    generator = np.random.default_rng(0)
    configs = [random_config(generator) for _ in range(80)]
    assert {config.rope_parameters["rope_type"] for config in configs} == {
        "default", "linear", "dynamic", "yarn", "longrope", "llama3",
    }  # fmt: skip
    assert {config.num_local_experts for config in configs} == {1, 2, 5, 12}
    assert any(config.head_size != config.hidden_size // config.num_attention_heads for config in configs)
    masks = [random_input(20, generator)[1] for _ in range(80)]
    assert any(mask is None for mask in masks)
    assert any(mask is not None and not mask[:, 0].all() for mask in masks)
    assert any(mask is not None and not mask[:, -1].all() for mask in masks)
    assert all(mask is None or mask.any(1).all() for mask in masks)
