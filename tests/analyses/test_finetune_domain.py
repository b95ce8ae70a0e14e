"""The analyses run, on a model and a corpus made here."""

import json
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from mixtral_probe import MixtralConfig, MixtralForCausalLM
from mixtral_probe.checkpoint import model_folder

FINETUNE = Path(__file__).parents[2] / "analyses" / "finetune_domain.py"


@pytest.fixture
def inputs(tmp_path):
    """A tiny random model with the embedded one's tokenizer, and eight documents."""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MixtralConfig(vocab_size=8192, num_key_value_heads=1, num_local_experts=4, initializer_range=0.1, **small)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((model_folder("mini") / name).read_bytes())
    (tmp_path / "corpus").mkdir()
    rows = [
        {"id": str(i), "text": f"le chat numéro {i} dort dans la maison. " * 12, "domain": "french"} for i in range(8)
    ]
    (tmp_path / "corpus" / "french.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(FINETUNE), *map(str, arguments)])
    runpy.run_path(str(FINETUNE), run_name="__main__")


def test_finetuning_shows_how_the_routers_moved(inputs, monkeypatch, capsys):
    places = ("--model", inputs / "model", "--corpus", inputs / "corpus", "--out", inputs / "out")
    run(monkeypatch, *places, "--steps", 12, "--rate", 0.01)
    printed = capsys.readouterr().out
    bits = [float(line.split()[1]) for line in printed.splitlines() if line.endswith("bits per token")]
    assert bits[1] < bits[0] - 1
    table = pd.read_csv(inputs / "out" / "expert_load.csv")
    shares = table[table["metric"] == "share"].set_index(["group", "layer", "expert"])["value"]
    assert (shares["before"] - shares["after"]).abs().max() > 0.01
    assert shares.groupby(["group", "layer"]).sum().round(9).eq(1).all()
    assert "expert" in (inputs / "out" / "expert_load.html").read_text()
    assert MixtralForCausalLM.from_pretrained(inputs / "out" / "model").config.num_local_experts == 4


def test_a_domain_without_enough_documents(inputs, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--corpus", inputs / "corpus", "--domain", "klingon")
    assert "'klingon' must have more than 6 documents, but has 0" in capsys.readouterr().err
