"""Layers on several devices. Machines without accelerators see the path with "meta" and with stand-ins for layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixtral_probe import InputError, MixtralConfig, MixtralForCausalLM
from mixtral_probe.checkpoint import memory, placement
from mixtral_probe.checkpoint.placement import distribute, part_sizes, place
from tests.support.models import everything, toy_model

IDS = torch.arange(18).reshape(2, 9)
CPU, META = torch.device("cpu"), torch.device("meta")
FOUR = MixtralConfig(
    vocab_size=50, hidden_size=24, intermediate_size=20, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, num_local_experts=4,
)  # fmt: skip


def test_every_spelling_of_a_part():
    asked = {0: "cpu", "1": "cpu"}
    with pytest.raises(InputError, match=r"layers by number, embed_tokens, norm or head, got '1'"):
        place(FOUR, asked, torch.float32)
    asked = {0: "cpu", "layers.1": "meta", "model.layers.2": META, 3: "meta", "model.embed_tokens": "meta"}
    found = place(FOUR, asked, torch.float32)
    assert found.layers == (CPU, META, META, META)
    assert (found.embedding, found.norm, found.head) == (META, META, META)
    found = place(FOUR, {"": "cpu", 2: "meta"}, torch.float32)
    assert found.layers == (CPU, CPU, META, CPU)
    assert (found.embedding, found.norm, found.head) == (CPU, CPU, CPU)
    found = place(FOUR, {0: "cpu", 1: "cpu", 2: "meta", 3: "meta", "lm_head": "cpu"}, torch.float32)
    assert (found.embedding, found.norm, found.head) == (CPU, META, CPU)


def test_a_tied_head_lies_with_the_embedding():
    tied = FOUR.replace(tie_word_embeddings=True)
    found = place(tied, {0: "cpu", 1: "cpu", 2: "meta", 3: "meta"}, torch.float32)
    assert (found.embedding, found.norm, found.head) == (CPU, META, CPU)


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ("toaster", r"device 'toaster' cannot be used on this machine"),
        ({0: "cpu"}, r"must give every layer a device, got none for layer 1; '' is for the rest"),
        ({"": "cpu", 4: "cpu"}, r"layer must be in 0–3 \(this model has 4\), got 4"),
        ({"": "toaster"}, r"device 'toaster' cannot be used on this machine"),
        ({"": 7}, r"device '7' cannot be used on this machine"),
    ],
)
def test_maps_that_cannot_be(device_map, message):
    with pytest.raises(InputError, match=message):
        place(FOUR, device_map, torch.float32)


def test_either_a_device_or_a_map(folder):
    with pytest.raises(InputError, match=r"only one of device and device_map may be given, got both"):
        MixtralForCausalLM.from_pretrained(folder, device="meta", device_map={"": "cpu"})


def test_sizes_of_the_parts_are_those_of_the_model():
    for config in (FOUR, FOUR.replace(tie_word_embeddings=True)):
        assert sum(part_sizes(config)) == config.num_parameters()
    assert part_sizes(FOUR)[1] == sum(
        weight.numel() for weight in MixtralForCausalLM(FOUR).model.layers[0].parameters()
    )


def test_sharing_out_by_hand():
    assert distribute([1, 4, 4, 4, 4, 1], [100, 100]) == [0, 0, 0, 1, 1, 1]
    assert distribute([1, 4, 4, 4, 4, 1], [300, 100]) == [0, 0, 0, 0, 1, 1]
    assert distribute([1, 4, 4, 4, 4, 1], [5, 9]) == [0, 0, 1, 1, 2, 2]
    assert distribute([1, 4, 4, 4, 4, 1], []) == [0] * 6
    assert distribute([2, 2], [1, 4]) == [1, 1]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.lists(st.integers(1, 100), max_size=4))
def test_shares_are_in_order_and_fit(sizes, rooms):
    places = distribute(sizes, rooms)
    assert places == sorted(places)
    for room, size in enumerate(rooms):
        assert sum(s for s, p in zip(sizes, places, strict=True) if p == room) <= size
    if rooms and sum(sizes) <= rooms[0]:
        assert max(places) < len(rooms)


def test_auto_without_accelerators_is_the_cpu(monkeypatch):
    monkeypatch.setattr(placement, "_accelerators", lambda: [])
    assert place(FOUR, "auto", torch.float32).devices == {CPU}


def test_auto_follows_free_memory(monkeypatch):
    """Two accelerators of which the second is three times as free; what is left over goes to the CPU."""
    cards = [torch.device("cuda", i) for i in range(2)]
    size = 4 * FOUR.num_parameters()
    free = {cards[0]: size, cards[1]: 3 * size}
    monkeypatch.setattr(placement, "_accelerators", lambda: cards)
    monkeypatch.setattr(placement, "available_bytes", free.get)
    found = place(FOUR, "auto", torch.float32)
    assert found.layers == (cards[0], *cards[1:] * 3)
    assert (found.embedding, found.head) == (cards[0], cards[1])
    free |= {cards[0]: size * 3 // 5, cards[1]: size // 4}
    assert place(FOUR, "auto", torch.float32).layers == (cards[0], cards[0], CPU, CPU)


def test_only_what_has_a_place_is_read(folder):
    model = MixtralForCausalLM.from_pretrained(folder, device_map={0: "cpu", 1: "meta"})
    assert not any(weight.is_meta for weight in model.model.layers[0].parameters())
    assert all(weight.is_meta for weight in model.model.layers[1].parameters())
    assert not model.model.embed_tokens.weight.is_meta
    assert model.model.norm.weight.is_meta
    assert model.lm_head.weight.is_meta
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.model.multi_device


def test_one_device_by_a_map_is_that_device(folder):
    model = MixtralForCausalLM.from_pretrained(folder, device_map={"": "cpu"})
    assert not model.model.multi_device
    expected = everything(MixtralForCausalLM.from_pretrained(folder), IDS)
    assert torch.equal(everything(model, IDS).logits, expected.logits)


class Station(torch.nn.Module):
    """In place of a layer: notes where it is given things, and passes on."""

    def __init__(self, device):
        super().__init__()
        self.input_layernorm = torch.nn.LayerNorm(1, device=device)
        self.seen = []

    def forward(self, hidden, context, hooks):
        tensors = (hidden, context.positions, *context.rotary, context.mask, context.valid, hooks.context.mask)
        self.seen = [tensor.device.type for tensor in tensors]
        return hidden


def test_each_layer_gets_everything_on_its_device(folder):
    model = MixtralForCausalLM.from_pretrained(folder, device_map={0: "cpu", 1: "meta"})
    stations = [Station(device) for device in ("cpu", "meta", "meta")]
    model.model.layers = torch.nn.ModuleList(stations)
    mask = torch.ones_like(IDS)
    mask[0, :3] = 0
    out = model(IDS, mask, use_cache=False)
    assert [set(station.seen) for station in stations] == [{"cpu"}, {"meta"}, {"meta"}]
    assert out.logits.shape == (2, 9, 50)
    assert out.logits.is_meta


def test_each_device_is_asked_for_room(folder, monkeypatch):
    sizes = part_sizes(MixtralForCausalLM.from_pretrained(folder).config)
    needed = 4 * (sizes[0] + sizes[1])
    monkeypatch.setattr(memory, "available_bytes", lambda device: needed - 1 if device == CPU else None)
    with pytest.raises(InputError, match=r"take .* GB and cpu has"):
        MixtralForCausalLM.from_pretrained(folder, device_map={0: "cpu", 1: "meta"})
    monkeypatch.setattr(memory, "available_bytes", lambda device: needed if device == CPU else None)
    MixtralForCausalLM.from_pretrained(folder, device_map={0: "cpu", 1: "meta"})


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("tied", [False, True])
def test_an_accelerator_and_the_cpu_together(tmp_path, tied):
    toy_model(tie_word_embeddings=tied).save_pretrained(tmp_path)
    device = torch.accelerator.current_accelerator()
    whole = MixtralForCausalLM.from_pretrained(tmp_path)
    for device_map in ({0: device, 1: "cpu"}, {0: "cpu", 1: device}, "auto"):
        split = MixtralForCausalLM.from_pretrained(tmp_path, device_map=device_map, dtype="float32")
        found, expected = everything(split, IDS, labels=IDS), everything(whole, IDS, labels=IDS)
        assert torch.allclose(found.logits.cpu(), expected.logits, atol=1e-4)
        assert torch.allclose(found.loss.cpu(), expected.loss, atol=1e-4)
