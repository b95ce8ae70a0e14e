"""A forward pass queues its work without waiting for the device, routers recorded or not."""

import pandas as pd
import pytest
import torch

from mixtral_probe.instruments import Recorder, Window, copier_for
from mixtral_probe.trace import TraceBuilder, TraceMeta
from tests.support.benchmarks import benchmark_module
from tests.support.models import toy_model

ALIGNED = {"hidden_size": 48, "intermediate_size": 40}
IDS = torch.arange(60).reshape(3, 20).mul(7).remainder(50)
MASK = torch.ones_like(IDS)
MASK[1, 13:] = 0
counted_waits = benchmark_module("waits").counted_waits


class Queue:
    """The copies that an accelerator would make."""

    def __init__(self):
        self.copies = []

    def copy(self, value, write):
        self.copies.append((value, write))

    def finish(self):
        for value, write in self.copies:
            write(value)


def model_of(implementation="grouped_mm"):
    model = toy_model(**ALIGNED)
    model.set_experts_implementation(implementation)
    return model


def recorder_of(lengths, copier):
    meta = TraceMeta(num_layers=2, num_experts=12, num_experts_per_tok=3)
    numbers = range(len(lengths))
    documents = pd.DataFrame({"document": numbers, "id": [str(n) for n in numbers]})
    tokens = pd.DataFrame({"document": [n for n in numbers for _ in range(lengths[n])], "token_id": 0})
    starts = [sum(lengths[:n]) for n in numbers]
    windows = [Window(n, 0, starts[n], lengths[n]) for n in numbers]
    return Recorder(TraceBuilder(documents, tokens, meta), windows, max(lengths), copier)


def waits(call):
    """Where it waits, but for checks of values, which only a CPU has."""
    with torch.inference_mode(), counted_waits(torch.device("cpu")) as places:
        call()
    return [place for place in places if "inputs.py" not in place]


@pytest.mark.parametrize("arguments", [{}, {"attention_mask": MASK}, {"output_router_logits": True}], ids=str)
def test_a_forward_pass_with_grouped_experts_does_not_wait(arguments):
    model = model_of()
    assert waits(lambda: model(IDS, **arguments)) == []


def test_the_loop_over_experts_waits_once_a_layer():
    model = model_of("eager")
    assert [place.split()[0] for place in waits(lambda: model(IDS))] == ["aten::bincount", "tolist"] * 2


@pytest.mark.parametrize("lengths", [(20, 20, 20), (20, 13, 5)], ids=["equal rows", "padded rows"])
def test_the_recorder_adds_no_wait_and_one_copy(lengths):
    model, queue = model_of(), Queue()
    recorder = recorder_of(lengths, queue)
    assert waits(lambda: (model.model(IDS, instruments=[recorder]), recorder.launch())) == []
    assert len(queue.copies) == 1
    recorder.finish()
    rows = [n * 20 + i for n, length in enumerate(lengths) for i in range(length)]
    out = model(IDS, output_router_logits=True)
    for layer in range(2):
        expected = out.router_logits[layer][rows].detach().numpy()
        assert (recorder.builder.router_logits[layer] == expected).all()
        assert (recorder.builder.expert_ids[layer] == (-expected).argsort(axis=1)[:, :3]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device_nothing_waits():
    model = model_of().to("cuda", torch.bfloat16)
    for lengths in ((20, 20, 20), (20, 13, 5)):
        recorder = recorder_of(lengths, copier_for(torch.device("cuda")))
        ids = IDS.cuda()
        with torch.inference_mode():
            model.model(ids, instruments=[recorder_of(lengths, copier_for(ids.device))])  # kernels load
            torch.cuda.set_sync_debug_mode("error")
            try:
                model.model(ids, instruments=[recorder])
                recorder.launch()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        recorder.finish()
