"""A sentence for every bad argument of ``forward``: the rule, what came, what to do."""

import pytest
import torch

from mixtral_probe import InputError, MixtralConfig, MixtralForCausalLM, MixtralModel
from mixtral_probe.model import KVCache
from tests.support.models import TOY, toy_model

IDS = torch.arange(27).reshape(3, 9).mul(7).remainder(50)
CAUSAL = torch.ones(9, 9, dtype=torch.bool).tril()


def full(length, rows=3):
    cache = KVCache()
    toy_model()(torch.zeros(rows, length, dtype=torch.int64), past_key_values=cache)
    return cache


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": None}, "exactly one of input_ids and inputs_embeds must be given"),
        ({"inputs_embeds": torch.zeros(3, 9, 24)}, "exactly one of input_ids and inputs_embeds must be given"),
        ({"input_ids": IDS[0]}, r"input_ids must be whole numbers \[batch, positions\], got int64 \[9\]"),
        ({"input_ids": IDS.float()}, r"input_ids must be whole numbers .* got float32 \[3, 9\]"),
        ({"input_ids": IDS + 20}, "token ids must be in 0–49, the model's vocabulary, got [56]."),
        ({"input_ids": IDS - 1}, "token ids must be in 0–49, the model's vocabulary, got -1"),
        (
            {"input_ids": None, "inputs_embeds": torch.zeros(3, 9, 23)},
            r"floats \[batch, positions, 24\], .* \[3, 9, 23\]",
        ),
        ({"input_ids": None, "inputs_embeds": torch.zeros(9, 24)}, r"floats \[batch, positions, 24\], .* \[9, 24\]"),
        ({"attention_mask": torch.ones(3, 8)}, r"past \+ positions\] = \[3, 9\], got \[3, 8\]"),
        ({"attention_mask": torch.ones(3, 9, 9)}, r"past \+ positions\] = \[3, 9\], got \[3, 9, 9\]"),
        ({"attention_mask": CAUSAL[None, None, 1:]}, r"\[3 or 1, 1 or 4, 9, 9\], got \[1, 1, 8, 9\]"),
        ({"attention_mask": CAUSAL.repeat(3, 2, 1, 1)}, r"\[3 or 1, 1 or 4, 9, 9\], got \[3, 2, 9, 9\]"),
        ({"attention_mask": CAUSAL.repeat(2, 1, 1, 1)}, r"\[3 or 1, 1 or 4, 9, 9\], got \[2, 1, 9, 9\]"),
        (
            {"attention_mask": CAUSAL[None, None].long()},
            "must be bool, .*, or a float that is added .* got int64",
        ),
        ({"position_ids": torch.arange(9)}, r"whole numbers \[3 or 1, 9\], got int64 \[9\]"),
        ({"position_ids": torch.arange(10)[None]}, r"whole numbers \[3 or 1, 9\], got int64 \[1, 10\]"),
        ({"position_ids": torch.ones(1, 9)}, r"whole numbers \[3 or 1, 9\], got float32 \[1, 9\]"),
        (
            {"position_ids": torch.zeros(1, 9).long(), "use_cache": True},
            "position_ids that rise by 1, got several packed",
        ),
        ({"position_ids": torch.zeros(1, 9).long(), "past_key_values": KVCache()}, "position_ids that rise by 1"),
        ({"past_key_values": full(2, rows=2)}, r"as many rows as the input \(3\), got 2; reorder it"),
        ({"past_key_values": ((torch.zeros(1),),)}, "must be a KVCache of mixtral_probe, got a tuple"),
        ({"output_attentions": [0, 2]}, r"layer must be in 0–1 \(this model has 2\), got 2"),
        ({"output_attentions": [-3]}, r"layer must be in 0–1 \(this model has 2\), got -3"),
        ({"output_attentions": ["0"]}, r"layers must be chosen by True, False or whole numbers, got \['0'\]"),
        ({"output_attentions": "all"}, "layers must be chosen by True, False or whole numbers, got 'all'"),
        ({"output_hidden_states": 1.5}, "states must be chosen by True, False or whole numbers, got 1.5"),
        ({"output_hidden_states": [3]}, r"hidden state must be in 0–2 \(this model has 3\), got 3"),
        ({"logits_to_keep": -1}, "logits_to_keep must be a number of positions, 0 for all, got -1"),
        ({"logits_to_keep": 1.5}, r"logits_to_keep must be a number or whole numbers \[n\] or \[3, n\], got 1.5"),
        ({"logits_to_keep": torch.tensor([0.0])}, r"\[n\] or \[3, n\], got float32 \[1\]"),
        ({"logits_to_keep": torch.zeros(2, 1).long()}, r"\[n\] or \[3, n\], got int64 \[2, 1\]"),
        ({"logits_to_keep": torch.tensor(3)}, r"\[n\] or \[3, n\], got int64 \[\]"),
        ({"logits_to_keep": torch.tensor([9])}, "logits_to_keep must name positions in 0–8, got 9"),
        ({"labels": IDS[:, 1:]}, r"labels must be int64 \[3, 9\], one for each .* got int64 \[3, 8\]"),
        (
            {"labels": IDS, "logits_to_keep": 2},
            r"labels must be int64 \[3, 2\], .*; with labels leave logits_to_keep at 0",
        ),
        ({"labels": IDS.float()}, r"labels must be int64 \[3, 9\], .* got float32 \[3, 9\]"),
        ({"labels": IDS + 20}, "labels must be token ids in 0–49, or -100 to be ignored, got [56]."),
        ({"labels": IDS - 1}, "labels must be token ids in 0–49, or -100 to be ignored, got -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message), torch.no_grad():
        toy_model()(**{"input_ids": IDS} | arguments)


def test_unknown_numerics_are_named():
    for model in (MixtralModel, MixtralForCausalLM):
        with pytest.raises(InputError, match="numerics must be 'reference' or 'fast', got 'slow'"):
            model(MixtralConfig(**TOY), "slow")
