"""Routing that is not finite is refused or counted apart, and probabilities are not taken for logits."""

import numpy as np
import pytest

from mixtral_probe import InputError, RoutingStats, Trace, tables
from mixtral_probe.trace.finite import are_probabilities
from tests.support.trace_runs import build, run

IDS = np.tile(np.array([[1, 0], [2, 3], [0, 3]]), (2, 1, 1))  # [L, T, K]
LOGITS = np.random.default_rng(0).normal(size=(2, 3, 4))
NAN, INF = np.nan, np.inf


def trace_with(place, value, *, weights=False, **options):
    """A trace with one value of its logits, or weights, replaced."""
    arrays = {"router_logits": LOGITS.copy(), "expert_weights": np.full(IDS.shape, 0.5)}
    arrays["expert_weights" if weights else "router_logits"][place] = value
    return Trace.from_arrays(expert_ids=IDS, **arrays, **options)


@pytest.mark.parametrize(
    ("place", "value", "weights"),
    [
        ((1, 2, 0), NAN, False), ((1, 2, 3), INF, False), ((1, 2, 3), -INF, False), ((1, 2), -INF, False),
        ((1, 2, 0), NAN, True), ((1, 2, 1), INF, True), ((1, 2, 1), -0.1, True),
    ],
)  # fmt: skip
def test_what_is_not_finite_is_refused_with_layer_and_token_or_has_no_choice(place, value, weights):
    sentence = "must be finite, and weights at least 0, got others in layer 1 for token 2, the first of 1 in all layers"
    with pytest.raises(InputError, match=sentence):
        trace_with(place, value, weights=weights)
    trace = trace_with(place, value, weights=weights, nonfinite="skip")
    assert trace.meta.nonfinite == (0, 1)
    assert trace.expert_ids[1, 2].tolist() == [-1, -1]
    assert trace.expert_weights[1, 2].tolist() == [0, 0]
    assert np.array_equal(trace.expert_ids[0], IDS[0])
    assert "1 choices left out" in repr(trace)


def test_an_expert_that_could_not_be_chosen_has_a_logit_of_minus_infinity():
    trace = trace_with((1, 2, 1), -INF)
    assert trace.meta.nonfinite is None
    assert np.isneginf(trace.router_logits[1, 2, 1])


def test_tokens_without_a_choice_count_nowhere():
    stats = RoutingStats.from_trace(trace_with((1, 2, 0), NAN, nonfinite="skip"))
    assert stats.sums.tokens.sum((1, 2)).tolist() == [3, 2]
    others = Trace.from_arrays(
        expert_ids=IDS[:, :2], router_logits=LOGITS[:, :2], expert_weights=np.full((2, 2, 2), 0.5)
    )
    expected = RoutingStats.from_trace(others)
    for name, sums in stats.sums.arrays().items():
        np.testing.assert_allclose(sums[1], expected.sums.arrays()[name][1], err_msg=name)


def test_every_table_can_be_made_of_such_a_trace(tmp_path):
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, 40, 4))
    ids = np.argsort(-logits, -1)[..., :2]
    logits[1, 5:9] = NAN
    trace = Trace.from_arrays(
        expert_ids=ids, router_logits=logits, document=np.repeat(np.arange(8), 5), nonfinite="skip",
        documents=[{"domain": "ab"[i % 2]} for i in range(8)], token_ids=random.integers(0, 9, 40),
    )  # fmt: skip
    assert Trace.load(trace.save(tmp_path / "a.trace")).meta.nonfinite == (0, 4, 0)
    stats = RoutingStats.from_trace(trace, by="domain")
    for name, spec in tables.TABLES.items():
        if spec.source in ("stats", "trace"):
            table = spec.function(stats if spec.source == "stats" else trace)
            assert len(table) or table.attrs.get("note"), name
    assert trace.select([1, 2]).meta.nonfinite == (0, 4, 0)
    assert trace.select([0]).meta.nonfinite is None


def test_an_unknown_option_is_refused():
    with pytest.raises(InputError, match="nonfinite must be one of refuse, skip, got 'ignore'"):
        trace_with((0, 0, 0), 1, nonfinite="ignore")


def softmax(logits):
    values = np.exp(logits)
    return values / values.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "of the chosen"])
def test_probabilities_are_not_taken_for_logits(kind):
    probabilities = softmax(LOGITS)
    if kind == "of the chosen":
        probabilities[..., 0] = 0
        probabilities /= probabilities.sum(-1, keepdims=True)
    elif kind == "bfloat16":
        probabilities = (probabilities.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    else:
        probabilities = probabilities.astype(kind)
    with pytest.raises(
        InputError, match=r"must come from before the softmax, got probabilities: .* as router_probabilities"
    ):
        Trace.from_arrays(expert_ids=IDS, router_logits=probabilities)


def test_logits_are_not_taken_for_probabilities():
    assert not are_probabilities(LOGITS)
    assert not are_probabilities(np.ones((1, 5, 1)))
    assert not are_probabilities(np.zeros((1, 0, 4)))
    assert not are_probabilities(np.full((1, 5, 4), NAN))
    almost = softmax(LOGITS)
    almost[0, 0] *= 1.02
    assert not are_probabilities(almost)


def test_probabilities_are_stored_as_logarithms_whose_z_loss_is_unknown(tmp_path):
    probabilities = softmax(LOGITS)
    trace = Trace.from_arrays(expert_ids=IDS, router_probabilities=probabilities)
    trace = Trace.load(trace.save(tmp_path / "a"))
    np.testing.assert_allclose(trace.router_logits, np.log(probabilities), rtol=1e-5)
    before, after = (
        RoutingStats.from_trace(one) for one in (Trace.from_arrays(expert_ids=IDS, router_logits=LOGITS), trace)
    )
    np.testing.assert_allclose(after.sums.probability, before.sums.probability, rtol=1e-5)
    np.testing.assert_allclose(after.sums.confidence, before.sums.confidence, rtol=1e-4)
    table = tables.balance_loss(after).set_index("metric")
    assert table.loc["router_z_loss", "value"].isna().all()
    assert table.loc["router_z_loss", "scope"].str.contains("unknown: the trace has probabilities").all()
    assert table.loc["load_balancing_loss", "value"].notna().all()


@pytest.mark.parametrize(("given", "sentence"), [
    ({"router_probabilities": LOGITS}, "must be rows of at least 0 that sum to 1"),
    ({"router_probabilities": softmax(LOGITS), "router_logits": LOGITS}, "got both; give one of them"),
])  # fmt: skip
def test_what_are_no_probabilities(given, sentence):
    with pytest.raises(InputError, match=sentence):
        Trace.from_arrays(expert_ids=IDS, **given)


def test_a_builder_refuses_them_when_the_documents_are_done():
    for value, sentence in ((NAN, "got others in layer 1 for token 4"), (9, "experts of a token must differ")):
        builder = build(attention=None)
        run(builder, [0])
        builder.expert_ids[:, 3:5] = [0, 1]
        builder.router_logits[1, 4] = value
        if value == 9:
            builder.expert_ids[1, 4] = [2, 2]
        with pytest.raises(InputError, match=sentence):
            builder.mark_done([1])
        assert builder.pending == [1, 2]
