"""Trace: what it checks, how it is built from arrays, its views."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe.errors import InputError
from mixtral_probe.trace import Trace, TraceMeta, fingerprint

IDS = np.array([[[0, 1], [2, 3], [1, 0]], [[3, 2], [1, 0], [0, 3]]])  # L=2, T=3, K=2


def small(**changes):
    given = {"expert_ids": IDS, "num_experts": 4, "token_ids": [7, 8, 9], "document": [0, 0, 1]} | changes
    return Trace.from_arrays(**given)


def test_from_arrays_fills_what_is_missing():
    trace = small()
    assert (len(trace), trace.num_layers, trace.num_experts, trace.num_experts_per_tok) == (3, 2, 4, 2)
    assert trace.tokens["position"].tolist() == [0, 1, 0]
    assert trace.tokens["chunk"].tolist() == [0, 0, 0]
    assert trace.tokens["phase"].tolist() == ["prefill"] * 3
    assert not trace.tokens["special"].any()
    for name in ("piece", "start", "end", "nll", "predicted_id"):
        assert trace.tokens[name].isna().all()
    assert trace.documents["id"].tolist() == ["0", "1"]
    assert trace.expert_ids.dtype == np.int16
    assert trace.expert_weights is None
    assert trace.router_logits is None
    assert trace.attention_sums is None
    assert trace.attention_layers == ()


def test_num_experts_comes_from_the_logits():
    assert small(num_experts=None, router_logits=np.zeros((2, 3, 6))).num_experts == 6
    with pytest.raises(InputError, match="num_experts must be given"):
        small(num_experts=None)


def test_positions_restart_in_each_chunk():
    trace = small(document=[0, 0, 0], chunk=[0, 1, 1])
    assert trace.tokens["position"].tolist() == [0, 0, 1]


def test_k_is_the_largest_number_chosen():
    padded = np.concatenate([IDS, np.full((2, 3, 2), -1)], axis=2)
    weights = np.where(padded < 0, 0, 0.5)
    trace = small(expert_ids=padded, expert_weights=weights)
    assert trace.expert_ids.shape == trace.expert_weights.shape == (2, 3, 2)
    assert trace.num_experts_per_tok == 2


def test_labels_keep_their_kind_and_may_be_missing():
    records = [{"id": "a", "domain": "code", "year": 1999, "good": True}, {"id": "b", "score": 0.5}]
    documents = small(documents=records).documents
    assert documents.columns.tolist() == ["document", "id", "domain", "year", "good", "score"]
    assert documents.dtypes.astype(str).tolist() == ["int32", "str", "str", "Int64", "boolean", "float64"]
    assert documents.loc[1, ["domain", "year", "good"]].isna().all()


def test_moe_layers_name_the_models_layers():
    assert small(moe_layers=[1, 3]).meta.moe_layers == (1, 3)
    with pytest.raises(InputError, match="moe_layers names 1 layers where num_layers is 2"):
        small(moe_layers=[1])


def test_a_trace_copies_and_cannot_be_written():
    ids = IDS.copy()
    trace = small(expert_ids=ids)
    ids[0, 0, 0] = 3
    assert trace.expert_ids[0, 0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        trace.expert_ids[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"expert_ids": IDS[0]},
            r"expert_ids must have the shape \[layers, tokens, chosen experts\], got \(3, 2\)",
        ),
        ({"expert_ids": IDS * 1.0}, "expert_ids must be integers, got float64"),
        ({"expert_ids": IDS - 2}, "got values from -2 to 1"),
        ({"num_experts": 3}, r"expert ids must be in 0–2 \(−1 = none\), got 3 in layer 0"),
        ({"expert_ids": np.where(IDS == 0, 1, IDS)}, "got 1 twice for token 0 in layer 0"),
        ({"expert_ids": np.where(IDS == 0, -1, IDS)}, "must follow all chosen experts, got it before one in layer 0"),
        ({"expert_weights": np.ones((2, 3, 3))}, r"expert_weights must have the shape of expert_ids, \(2, 3, 2\)"),
        ({"router_logits": np.ones((2, 3, 5))}, r"router_logits must have the shape \(2, 3, 4\), got \(2, 3, 5\)"),
        ({"router_logits": [["a"]]}, "router_logits must be an array of numbers"),
        ({"token_ids": [1, 2]}, "column 'token_id' must have one value per token, 3, got 2"),
        ({"token_ids": [1.5, 2, 3]}, "column 'token_id' must hold integers, got float64"),
        ({"token_ids": [1, 2, 2**40]}, "must fit 32 bits"),
        ({"token_ids": [1, 2, -3]}, "token id must be at least 0 .*, got -3"),
        ({"document": [0, 1, 0]}, "got document 0 after document 1 at row 2; sort the rows"),
        ({"document": [0, 0, 2], "documents": [{}, {}]}, "the document of a token must be in 0–1, got 2"),
        ({"document": [-1, 0, 0]}, "the document of a token must be in 0–0, got -1"),
        ({"position": [3, 3, 0]}, "got 3 after 3 at row 1; leave padding out"),
        ({"chunk": [1, 0, 0]}, "chunks must count from 0 and never fall"),
        ({"phase": ["prefill", "warm", "decode"]}, "must be 'prefill' or 'decode', got 'warm'"),
        ({"special": [0, 1, 0]}, "must hold one truth value per token, got int64"),
        ({"nll": ["a", "b", "c"]}, "column 'nll' must hold numbers"),
        ({"start": [0.5, 1, 2]}, "column 'start' must hold 32-bit integers"),
        ({"colour": [1, 2, 3]}, "a token column must be one of .*, got 'colour'"),
        ({"documents": [{"a": 1}, {"a": "x"}]}, "label 'a' must be text, numbers or truth values, of one kind"),
        ({"documents": [{"a": [1]}, {}]}, "label 'a' must be text, numbers or truth values"),
        ({"documents": [{"a": 2**70}, {}]}, "label 'a' must fit a 64-bit integer"),
        ({"documents": [{"document": 1}, {}]}, "in order, got 1 for 0"),
        ({"meta": {"model": {"x": {1, 2}}}}, "only what JSON can hold may stand here"),
        ({"meta": {"colour": 1}}, "Extra inputs are not permitted"),
    ],
)
def test_each_broken_rule_is_one_sentence(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def test_a_weight_without_an_expert_is_refused():
    ids = np.array([[[0, 1], [2, -1]]])
    with pytest.raises(
        InputError, match=r"the weight must be 0 where no expert was chosen \(id −1\), got another in layer 0"
    ):
        Trace.from_arrays(expert_ids=ids, expert_weights=np.full((1, 2, 2), 0.5), num_experts=4)


def test_direct_construction_checks_columns_and_dtypes():
    trace = small()
    parts = {"documents": trace.documents, "expert_ids": trace.expert_ids, "meta": trace.meta}
    with pytest.raises(InputError, match="tokens must have the columns document, chunk"):
        Trace(tokens=trace.tokens.drop(columns="nll"), **parts)
    with pytest.raises(InputError, match="token column 'nll' must be float32, got float64"):
        Trace(tokens=trace.tokens.assign(nll=1.0), **parts)
    with pytest.raises(InputError, match="must be numbered 0, 1, 2"):
        Trace(tokens=trace.tokens, **(parts | {"documents": trace.documents.iloc[::-1]}))
    with pytest.raises(InputError, match="expert_ids must be int16, got int64"):
        Trace(tokens=trace.tokens, **(parts | {"expert_ids": IDS}))


def test_rows_and_select():
    trace = small(
        documents=[{"id": "a", "domain": "code"}, {"id": "b", "domain": "prose"}], router_logits=np.ones((2, 3, 4))
    )
    assert trace.rows(0) == slice(0, 2)
    assert trace.rows(1) == slice(2, 3)
    turned = trace.select([1, 0])
    assert turned.documents["id"].tolist() == ["b", "a"]
    assert turned.tokens["token_id"].tolist() == [9, 7, 8]
    assert turned.tokens["document"].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(turned.expert_ids, IDS[:, [2, 0, 1]])
    assert turned.router_logits.shape == (2, 3, 4)
    assert len(trace.select([])) == 0
    with pytest.raises(InputError, match="document must be in 0–1, got 2"):
        trace.select([2])
    with pytest.raises(InputError, match="selected once, got one twice"):
        trace.select([0, 0])


def test_documents_without_tokens_are_kept():
    trace = small(document=[0, 0, 2], documents=[{}, {}, {}])
    assert trace.rows(1) == slice(2, 2)
    assert len(trace.select([1])) == 0


def test_repr_is_a_few_telling_lines():
    text = repr(
        small(documents=[{"domain": "x"}, {"domain": "x"}], meta={"model": {"name": "mini"}, "dtype": "float32"})
    )
    assert text.splitlines()[0] == "Trace of 2 documents, 3 tokens: 2 layers × 4 experts, 2 per token"
    assert "mini, float32" in text
    assert "domain (1 value)" in text
    assert "expert ids" in text


def test_meta_is_frozen_and_turns_tuples_into_lists():
    meta = TraceMeta(num_layers=1, num_experts=2, num_experts_per_tok=1, instruments=[{"layers": (1, 2)}])
    assert meta.instruments == [{"layers": [1, 2]}]
    with pytest.raises(ValueError, match="frozen"):
        meta.num_layers = 3
    with pytest.raises(ValueError, match="3 experts per token where there are 2"):
        TraceMeta(num_layers=1, num_experts=2, num_experts_per_tok=3)


def test_categorical_pieces_are_taken_as_they_are():
    pieces = pd.Categorical(["b", "a", "b"], categories=["a", "b"])
    assert small(piece=pieces).tokens["piece"].tolist() == ["b", "a", "b"]


def test_fingerprint_depends_on_content_dtype_shape_and_order():
    arrays = np.zeros(4, np.int32), np.zeros(4, np.float32), np.zeros((2, 2), np.int32)
    assert len({fingerprint(array) for array in arrays}) == 3
    assert fingerprint("a", "bc") != fingerprint("ab", "c")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len(fingerprint("\ud800", b"x", None)) == 64
    with pytest.raises(TypeError, match="array of objects"):
        fingerprint(np.array([None]))
