"""Estimates: what a calibration measures, once for a device, dtype and shapes; and memory beside that of real runs."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixtral_probe import MixtralConfig, MixtralForCausalLM, Probe, edits
from mixtral_probe.instruments import FORWARD, MemoryMeter
from mixtral_probe.run import calibration
from mixtral_probe.run.calibration import Calibration, calibrate
from mixtral_probe.run.twin import Twin
from mixtral_probe.trace import AttentionPlan
from tests.support.models import randomise, toy_model

WIDE = {
    "vocab_size": 8192, "hidden_size": 192, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 4096,
}  # fmt: skip
LONG = ["a truth universally acknowledged " * 100, "x = 1\n" * 150]
SHORT = ["def add(a, b): return a + b", "2 + 2 = 4"] * 40


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    monkeypatch.setattr(calibration, "_kept", {})


@pytest.fixture(scope="module")
def probe(tokenizer):
    model = MixtralForCausalLM(MixtralConfig(**WIDE))
    randomise(model, 0)
    return Probe(model, tokenizer, "wide")


@pytest.fixture
def calibrations(monkeypatch):
    """The twins that are made."""
    made = []
    of = Twin.of
    monkeypatch.setattr(Twin, "of", lambda model: made.append(model) or of(model))
    return made


def test_a_calibration_is_made_once_for_a_device_dtype_and_shapes(probe, calibrations):
    probe.estimate(SHORT)
    again = Probe(MixtralForCausalLM(MixtralConfig(**WIDE | {"num_hidden_layers": 5})), probe.tokenizer)
    again.estimate(LONG)
    assert len(calibrations) == 1
    Probe(MixtralForCausalLM(MixtralConfig(**WIDE)).to(torch.bfloat16), probe.tokenizer).estimate(SHORT)
    Probe(MixtralForCausalLM(MixtralConfig(**WIDE | {"hidden_size": 96})), probe.tokenizer).estimate(SHORT)
    assert len(calibrations) == 3


def test_the_weights_of_the_model_are_not_read(tokenizer):
    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig(**WIDE))
    model.lm_head.weight = torch.nn.Parameter(torch.full((8192, 192), torch.nan))
    found = calibrate(model)
    assert found.row_seconds > 0
    assert np.isfinite([*found.layer_seconds, found.square_seconds, found.score_seconds]).all()


@pytest.mark.parametrize("numerics", ["fast", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_twin_has_the_shapes_and_runs(numerics, dtype):
    model = toy_model(numerics=numerics).to(dtype)
    twin = Twin.of(model)
    ours = {name: (weight.shape, weight.dtype) for name, weight in model.named_parameters() if "layers.1" not in name}
    assert {name: (weight.shape, weight.dtype) for name, weight in twin.short.named_parameters()} == ours
    batch = twin.batch(2, 5)
    assert twin.short(batch.ids).logits.isfinite().all()
    assert not torch.equal(twin.short(batch.ids).logits, twin.tall(batch.ids).logits)
    assert twin.tall.model.layers[1].self_attn.q_proj.weight is not None


def test_experts_too_large_for_memory_of_their_own_share_it(monkeypatch):
    import mixtral_probe.run.twin as module

    monkeypatch.setattr(module, "_EXPERT_BYTES", 0)
    twin = Twin.of(toy_model())
    assert twin.short.model.layers[0].block_sparse_moe.experts.down_proj.stride(0) == 0
    assert twin.short(twin.batch(2, 5).ids).logits.isfinite().all()


def test_seconds_by_hand():
    found = Calibration((1, 64, 512), (1.0, 2.0, 10.0), 0.5, 0.01, 1e-4, 0.0, 0.0, 0.0)
    assert found.layer(1, 1) == 1
    assert found.layer(1, 64) == 2
    assert found.layer(4, 72) == pytest.approx(2 + 8 * (288 - 64) / 448 + 1e-4 * 288 * 8)
    assert found.layer(16, 64) == pytest.approx(10 + 0.01 * 512)
    assert found.forward([(1, 1), (1, 64)], 3) == pytest.approx(2 * 0.5 + 3 * (1 + 2))


def peak(probe, work):
    """Bytes of weights and of the most tensors that some work has at once."""
    meter = MemoryMeter()
    with meter, meter.span(FORWARD):
        work()
    return sum(weight.numel() * 4 for weight in probe.model.parameters()) + int(meter.peaks()[0])


@pytest.mark.parametrize("texts", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("attention", [None, "all", "1:0-2"])
def test_memory_of_a_capture_is_that_of_its_tensors_and_arrays(probe, texts, attention):
    planned, heads = probe.plan(texts), {None: 0, "all": 3 * 6, "1:0-2": 3}[attention]
    record = len(planned.token_ids) * 3 * (4 * 4 + 2 * (2 + 4))  # logits of 4 experts, ids and weights of 2
    maps = heads * 2 * sum(window.length * (window.length + 1) // 2 for window in planned.windows)
    expected = probe.estimate(planned, attention=attention)
    real = peak(probe, lambda: probe.trace(planned, attention=attention)) + record + maps
    assert expected.memory_bytes == pytest.approx(real, rel=0.1)


EXPERIMENTS = {
    "logit_lens": {}, "saliency": {}, "similarity": {"align": False}, "time": {"repeats": 1, "memory": False},
    "what_if": {"edits": [edits.MaskExpert(layer=1, expert=2)], "placebos": 3},
    "ablation": {"layers": [1], "experts": [0, 2], "placebos": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_an_estimate_with_the_arguments_of_its_run(probe, name):
    planned, how = probe.plan(LONG), EXPERIMENTS[name]
    expected = getattr(probe, f"estimate_{name}")(planned, **how)
    assert (expected.documents, expected.tokens, expected.disk_bytes) == (2, len(planned.token_ids), 0)
    assert 0 < expected.seconds < 60
    real = peak(probe, lambda: getattr(probe, name)(planned, **how))
    if name == "similarity":  # its largest arrays are NumPy's, which the meter does not see
        assert expected.memory_bytes > real
    else:
        assert expected.memory_bytes == pytest.approx(real, rel=0.15)


class WorkClock:
    """Counts the operations of torch, which no other program delays."""

    name = "operations"

    def __init__(self):
        self.mode = _Counting()
        self.mode.__enter__()

    def mark(self):
        return self.mode.elements

    def seconds(self, marks):
        self.mode.__exit__(None, None, None)
        return np.array(marks, float) - marks[0]


class _Counting(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.elements += 1 + (result.numel() if isinstance(result, torch.Tensor) else 0)
        return result


@pytest.fixture
def counted_work(monkeypatch):
    monkeypatch.setattr(calibration, "clock_for", lambda device: WorkClock())
    monkeypatch.setattr(calibration, "_NOTICED", np.inf)
    monkeypatch.setattr(import_module("mixtral_probe.run.capture_costs"), "_SLOW", np.inf)
    monkeypatch.setattr(calibration, "SECONDS", 60)


@pytest.mark.usefixtures("counted_work")
def test_what_takes_longer_is_estimated_longer(probe):
    def longer(one, other):
        assert one.seconds > other.seconds

    longer(probe.estimate(LONG), probe.estimate(LONG[0]))
    longer(probe.estimate(LONG, attention="all"), probe.estimate(LONG))
    longer(probe.estimate(SHORT[:2], generate=20), probe.estimate(SHORT[:2], generate=5))
    longer(probe.estimate_similarity(), probe.estimate_similarity(align=False))
    longer(probe.estimate_similarity(LONG, align=False), probe.estimate_similarity(align=False))
    edited = [edits.MaskExpert(layer=1, expert=2)]
    longer(probe.estimate_what_if(SHORT, edited, generate=5), probe.estimate_what_if(SHORT, edited))
    assert probe.estimate_similarity().documents == 0


def test_a_plan_of_attention_by_hand():
    from mixtral_probe.run.capture_costs import AttentionCosts, StepCosts

    costs = AttentionCosts(1e-6, 10.0)
    plan = AttentionPlan({0: (0, 1), 3: (2,)})
    assert costs.seconds(plan, [10, 20]) == pytest.approx(1e-6 * 3 * 500)
    assert costs.bytes(plan, ((2, 10), (1, 20))) == 10 * 2 * 400
    assert costs.bytes(plan, ((1, 2048),)) == 10 * 2048**2  # one head at a time
    steps = StepCosts((1, 8), (1.0, 1.0), (0.1, 0.8))
    assert steps.seconds(1, 4) == pytest.approx(1.4)
    assert steps.seconds(16, 4) == pytest.approx(2 * (1 + 3.2))
