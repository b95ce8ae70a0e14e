"""PEFT puts adapters on our models: they start, train, generate, are saved, read and merged as on transformers'."""

import json

import peft
import pytest
import torch

from mixtral_probe import MixtralForCausalLM
from tests.support.models import ours_like, reference_model, toy_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(50)
ATTENTION = ["q_proj", "v_proj"]


def lora(model, **changes):
    settings = {"task_type": "CAUSAL_LM", "target_modules": ATTENTION, "r": 4, "lora_alpha": 8} | changes
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(**settings))


def trained(model, steps=3, rate=3.0):
    found = []
    chosen = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate)
    for _ in range(steps):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        chosen.step()
        chosen.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_low_rank_adapter_trains_as_on_transformers():
    theirs = reference_model()
    found, expected = lora(ours_like(theirs)), lora(theirs)
    assert found.get_nb_trainable_parameters() == expected.get_nb_trainable_parameters()
    losses = trained(found)
    assert losses == pytest.approx(trained(expected), abs=1e-5)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        torch.testing.assert_close(found(IDS).logits, expected(IDS).logits, rtol=0, atol=1e-5)
    arguments = {"input_ids": IDS, "max_new_tokens": 5, "attention_mask": torch.ones_like(IDS), "do_sample": False}
    assert found.generate(**arguments).tolist() == expected.generate(**arguments).tolist()


def test_saved_read_and_merged(tmp_path):
    base = toy_model()
    base.save_pretrained(tmp_path / "base")
    adapted = lora(MixtralForCausalLM.from_pretrained(tmp_path / "base"))
    trained(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(
        MixtralForCausalLM.from_pretrained(settings["base_model_name_or_path"]), tmp_path / "adapter"
    )
    with torch.no_grad():
        expected = adapted.eval()(IDS).logits
        assert torch.equal(again.eval()(IDS).logits, expected)
        assert not torch.allclose(base(IDS).logits, expected, atol=1e-3)
        with adapted.disable_adapter():
            assert torch.equal(adapted(IDS).logits, base(IDS).logits)
        merged = again.merge_and_unload()
        assert isinstance(merged, MixtralForCausalLM)
        merged.save_pretrained(tmp_path / "merged")
        read = MixtralForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(read(IDS).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern:RuntimeWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["gate"]},
        {"target_modules": ATTENTION, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]},
    ],
    ids=str,
)
def test_adapters_of_other_parts(changes):
    """PEFT warns of its own pattern with models of transformers too."""
    losses = trained(lora(toy_model(), **changes), rate=0.1)
    assert losses[-1] < losses[0]


def test_with_layers_that_run_again():
    model = toy_model().train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    plain = trained(lora(toy_model().train()))
    assert trained(lora(model)) == pytest.approx(plain, abs=1e-6)
