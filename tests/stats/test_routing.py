"""RoutingStats: sums by brute force, merging in any order, groups, blocks, files."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.special import logsumexp, softmax

from mixtral_probe.errors import InputError
from mixtral_probe.stats import CONFIDENCE, MAX_BLOCKS, RoutingStats, chunks, confidence_edges, document_keys
from mixtral_probe.trace import Trace
from tests.support.routing import collapsed, fixed_trace, random_trace


def same(a, b):
    """Integers exactly, floats to 1e-12 relative, everything else equal."""
    for name in ("layers", "num_experts", "num_experts_per_tok", "by", "include_special", "groups", "modulus"):
        assert getattr(a, name) == getattr(b, name), name
    np.testing.assert_array_equal(a.block_keys, b.block_keys)
    assert (a.histogram is None) == (b.histogram is None)
    if a.histogram is not None:
        np.testing.assert_array_equal(a.histogram, b.histogram)
    for name, array in a.structure.arrays().items():
        np.testing.assert_array_equal(array, b.structure.arrays()[name], err_msg=name)
    np.testing.assert_array_equal(a.affinity.keys, b.affinity.keys)
    np.testing.assert_array_equal(a.affinity.counts, b.affinity.counts)
    assert (a.affinity.pieces, a.affinity.halved) == (b.affinity.pieces, b.affinity.halved)
    mine, theirs = (part.sums.arrays() | part.value_sums.arrays() for part in (a, b))
    assert set(theirs) == set(mine)
    for name, array in mine.items():
        if array.dtype == np.int64:
            np.testing.assert_array_equal(array, theirs[name], err_msg=name)
        else:
            np.testing.assert_allclose(array, theirs[name], rtol=1e-12, atol=1e-13, err_msg=name)


def words(tokens):
    """Token ids that come back, some of them unknown."""
    return np.random.default_rng(tokens).integers(-1, 9, tokens)


def test_sums_by_brute_force():
    trace = random_trace(layers=2, tokens=60, documents=4)
    total = RoutingStats.from_trace(trace).total()
    z, ids = trace.router_logits.astype(np.float64), trace.expert_ids
    p = softmax(z, axis=-1)
    for layer in range(2):
        assert total.tokens[layer, 0] == 60
        for expert in range(8):
            for rank in range(2):
                assert total.load[layer, 0, rank, expert] == (ids[layer, :, rank] == expert).sum()
    np.testing.assert_allclose(total.probability[:, 0], p.sum(1), rtol=1e-12)
    np.testing.assert_allclose(total.z_loss[:, 0], np.square(logsumexp(z, axis=-1)).sum(1), rtol=1e-12)
    ranked = -np.sort(-z, axis=-1)
    expected = [
        -(p * np.log(p)).sum(-1) / np.log(8),
        p.max(-1),
        (-np.sort(-p, axis=-1))[..., :2].sum(-1),
        ranked[..., 1] - ranked[..., 2],
        ranked[..., 0] - ranked[..., 1],
    ]
    for quantity, values in enumerate(expected):
        np.testing.assert_allclose(total.confidence[:, 0, quantity], values.sum(1), rtol=1e-12)
    np.testing.assert_array_equal(total.confidence_tokens, 60)


def test_histograms_are_numpy_histograms():
    trace = random_trace(layers=1, tokens=300)
    stats = RoutingStats.from_trace(trace)
    z = trace.router_logits[0].astype(np.float64)
    ranked = -np.sort(-z, axis=-1)
    edges = confidence_edges()
    names = list(CONFIDENCE)
    margin = np.histogram(np.clip(ranked[:, 1] - ranked[:, 2], 0, 16), edges[names.index("selection_margin")])[0]
    np.testing.assert_array_equal(stats.histogram[0, 0, names.index("selection_margin")], margin)
    top = np.histogram(softmax(z, axis=-1).max(-1), edges[names.index("top1_probability")])[0]
    np.testing.assert_array_equal(stats.histogram[0, 0, names.index("top1_probability")], top)
    assert (stats.histogram.sum(-1) == 300).all()


@pytest.mark.parametrize("weights", [True, False])
def test_gates_are_the_weights_or_the_softmax_over_the_chosen(weights):
    trace = random_trace(layers=2, tokens=40, weights=weights)
    chosen = np.take_along_axis(trace.router_logits.astype(np.float64), trace.expert_ids.astype(int), -1)
    g = softmax(chosen, axis=-1)
    gate = RoutingStats.from_trace(trace).total().gate[:, 0]
    expected = np.zeros_like(gate)
    for layer in range(2):
        np.add.at(expected[layer], trace.expert_ids[layer].ravel(), g[layer].ravel())
    np.testing.assert_allclose(gate, expected, rtol=1e-6 if weights else 1e-12)


def test_slices_of_any_size_give_the_same_sums(monkeypatch):
    trace = random_trace(tokens=150, special=np.arange(150) % 11 == 0)
    whole = RoutingStats.from_trace(trace, by="domain")
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 7 * 3 * 2 * 8)
    same(RoutingStats.from_trace(trace, by="domain"), whole)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1000), st.integers(1, 180), st.integers(1, 5), st.randoms(use_true_random=False))
def test_merging_any_partition_in_any_order_gives_the_whole(seed, documents, parts, random):
    trace = random_trace(seed, layers=2, tokens=3 * documents, documents=documents, token_ids=words(3 * documents))
    owner = [random.randrange(parts) for _ in range(documents)]
    pieces = [
        RoutingStats.from_trace(trace.select([d for d in range(documents) if owner[d] == part]), by="domain")
        for part in sorted(set(owner))
    ]
    random.shuffle(pieces)
    while len(pieces) > 1:  # a random tree: any order, any bracketing
        pieces.append(pieces.pop(random.randrange(len(pieces))).merge(pieces.pop(random.randrange(len(pieces)))))
        random.shuffle(pieces)
    same(pieces[0], RoutingStats.from_trace(trace, by="domain"))


def test_update_is_merge_and_leaves_the_old_alone():
    a, b = random_trace(1), random_trace(2)
    stats = RoutingStats.from_trace(a, by="domain")
    before = stats.total().load.copy()
    same(stats.update(b), stats.merge(RoutingStats.from_trace(b, by="domain")))
    np.testing.assert_array_equal(stats.total().load, before)


def test_up_to_128_documents_have_a_block_each_and_more_are_folded():
    some = RoutingStats.from_trace(random_trace(documents=MAX_BLOCKS))
    assert not some.folded
    assert len(some.block_keys) == MAX_BLOCKS
    assert (some.sums.tokens[0, 0] > 0).all()
    many = RoutingStats.from_trace(random_trace(documents=MAX_BLOCKS + 1))
    assert many.folded
    assert len(many.block_keys) <= MAX_BLOCKS
    assert many.block_keys.max() < MAX_BLOCKS
    assert many.total().tokens.sum() == 3 * 200


def test_document_keys_never_change():
    # BLAKE2b with an 8-byte digest of the UTF-8 id; b2sum -l 64 gives the same.
    assert document_keys(["a"]).tolist() == [int("40f89e395b66422f", 16)]


def test_a_document_met_twice_is_one_block():
    trace = random_trace(documents=3)
    twice = RoutingStats.from_trace(trace).update(trace)
    assert len(twice.block_keys) == 3
    assert twice.total().tokens[0, 0] == 2 * len(trace)


def test_groups_add_up_to_all():
    trace = random_trace()
    by_domain, plain = RoutingStats.from_trace(trace, by="domain"), RoutingStats.from_trace(trace)
    assert by_domain.groups == ("code", "law", "math")
    assert plain.groups == ("all",)
    same(by_domain.pooled(), plain)


def test_documents_without_the_label_are_their_own_group():
    trace = Trace.from_arrays(
        expert_ids=np.zeros((1, 3, 1), int), document=[0, 1, 2], num_experts=2,
        documents=[{"year": 1999}, {}, {"year": 2004}],
    )  # fmt: skip
    assert RoutingStats.from_trace(trace, by="year").groups == ("(none)", "1999", "2004")


def test_special_tokens_are_out_unless_asked_for():
    trace = random_trace(tokens=50, special=np.arange(50) < 20)
    assert (RoutingStats.from_trace(trace).total().tokens == 30).all()
    assert (RoutingStats.from_trace(trace, include_special=True).total().tokens == 50).all()


def test_padded_choices_are_no_load():
    ids = np.array([[[3, -1], [2, 1], [-1, -1]]])
    stats = RoutingStats.from_trace(fixed_trace(ids, np.zeros((1, 3, 4))))
    total = stats.total()
    assert total.tokens.tolist() == [[2]]  # the last token chose no expert here
    assert total.load[0, 0].tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    np.testing.assert_allclose(total.gate[0, 0], [0, 0.5, 0.5, 1])
    np.testing.assert_allclose(total.probability[0, 0], [0.5] * 4)


def test_forbidden_experts_have_no_margin_to_count():
    ids, logits = collapsed([(0, 1)], 5)
    logits[logits < 0] = -np.inf
    total = RoutingStats.from_trace(fixed_trace(ids, logits)).total()
    names = list(CONFIDENCE)
    assert total.confidence_tokens[0, 0, names.index("selection_margin")] == 0
    assert total.confidence_tokens[0, 0, names.index("router_entropy")] == 5
    assert total.confidence[0, 0, names.index("router_entropy")] == pytest.approx(5 / 3)


def test_a_constant_added_to_the_logits_changes_the_z_loss_alone():
    trace = random_trace(tokens=80)
    shift = np.linspace(-4, 4, 80, dtype=np.float32).round(0)[None, :, None]
    # Rounded to 2^-10, so that float32 adds the shift exactly.
    logits = np.round(trace.router_logits * 1024) / 1024
    before, after = (
        RoutingStats.from_trace(fixed_trace(trace.expert_ids, z, trace.tokens["document"].to_numpy())).total()
        for z in (logits, logits + shift)
    )
    for name, array in before.arrays().items():
        if name == "z_loss":
            assert not np.allclose(array, after.z_loss)
        else:
            np.testing.assert_allclose(array, after.arrays()[name], rtol=1e-12, atol=1e-12)


def test_no_token_at_all():
    ids, logits = np.zeros((2, 0, 1), int), np.zeros((2, 0, 4), np.float32)
    stats = RoutingStats.from_trace(fixed_trace(ids, logits, documents=[]))
    assert (stats.total().tokens == 0).all()
    other = RoutingStats.from_trace(random_trace(layers=2, experts=4, chosen=1))
    same(stats.merge(other), other)


def test_layers_carry_the_models_own_numbers():
    assert RoutingStats.from_trace(random_trace(layers=2, moe_layers=(1, 3))).layers == (1, 3)


@pytest.mark.parametrize("documents", [3, 100])
@pytest.mark.parametrize("logits", [True, False])
def test_saved_and_loaded_is_the_same(tmp_path, documents, logits):
    stats = RoutingStats.from_trace(
        random_trace(
            documents=documents, logits=logits, token_ids=words(200), piece=list("ab\ud800") * 66 + [None] * 2
        ),
        by="domain",
    )
    stats.save(tmp_path / "stats.safetensors")
    same(RoutingStats.load(tmp_path / "stats.safetensors"), stats)
    assert [path.name for path in tmp_path.iterdir()] == ["stats.safetensors"]


def test_files_that_are_not_statistics_are_refused(tmp_path):
    with pytest.raises(InputError, match="got none at"):
        RoutingStats.load(tmp_path / "missing")
    (tmp_path / "text").write_text("no")
    with pytest.raises(InputError, match="must be a whole file of mixtral-probe"):
        RoutingStats.load(tmp_path / "text")
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="version 4 or 5, got another kind of file"):
        RoutingStats.load(tmp_path / "other.safetensors")


def test_mistakes_are_told_in_a_sentence():
    trace = random_trace()
    stats = RoutingStats.from_trace(trace)
    with pytest.raises(InputError, match=r"a label of the documents \(domain\), got 'language'"):
        RoutingStats.from_trace(trace, by="language")
    with pytest.raises(InputError, match="same label, got None and domain"):
        stats.merge(RoutingStats.from_trace(trace, by="domain"))
    with pytest.raises(InputError, match="same experts, got 8 and 4"):
        stats.merge(RoutingStats.from_trace(random_trace(experts=4)))
    with pytest.raises(InputError, match=r"got confidence, .* in only one of them"):
        stats.merge(RoutingStats.from_trace(random_trace(logits=False)))
    ids = np.zeros((1, 1, 1), int)
    with pytest.raises(InputError, match="the group of every document"):
        RoutingStats.from_trace(fixed_trace(ids, np.zeros((1, 1, 2)), documents=[{"domain": "all"}]), by="domain")
    earlier = replace(fixed_trace(ids, np.zeros((1, 1, 2))), router_logits=np.full((1, 1, 2), np.nan, np.float32))
    with pytest.raises(InputError, match="must be numbers, got NaN for token 0 at layer index 0"):
        RoutingStats.from_trace(earlier)
    with pytest.raises(InputError, match=r"must be finite, .*, got others in layer 0 for token 0"):
        RoutingStats.from_trace(fixed_trace(ids, np.full((1, 1, 2), np.nan)))


def test_a_trace_on_disk_gives_the_same(tmp_path):
    trace = random_trace(weights=True)
    trace.save(tmp_path / "a.trace")
    same(RoutingStats.from_trace(Trace.load(tmp_path / "a.trace")), RoutingStats.from_trace(trace))


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])  # the same groups and blocks, and other ones
def test_merging_changes_neither_part_and_keeps_nothing_of_them(seeds):
    def held(stats):
        affinity = [stats.affinity.keys, stats.affinity.byte_counts.low, stats.affinity.byte_counts.high]
        return [*stats.sums.arrays().values(), *stats.structure.arrays().values(), stats.histogram, *affinity]

    parts = [RoutingStats.from_trace(random_trace(seed, token_ids=words(200)), by="domain") for seed in seeds]
    before = [[array.copy() for array in held(part)] for part in parts]
    merged = parts[0].merge(parts[1])
    for array in held(merged):
        array[...] = 9
    for part, arrays in zip(parts, before, strict=True):
        for mine, theirs in zip(held(part), arrays, strict=True):
            np.testing.assert_array_equal(mine, theirs)
