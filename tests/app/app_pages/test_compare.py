"""The page Compare shows the numbers of the table, and says why where two traces cannot be compared."""

from mixtral_probe import Trace, tables
from tests.support.app_traces import card_values, clean, opened, routed_trace, texts
from tests.support.routing import estimate


def moved(trace: Trace) -> Trace:
    """The same texts, every token of layer 1 sent to experts 0 and 1."""
    ids = trace.expert_ids.copy()
    ids[1] = [0, 1]
    return Trace.from_arrays(
        expert_ids=ids,
        token_ids=trace.tokens["token_id"].to_numpy(),
        document=trace.tokens["document"].to_numpy(),
        documents=trace.documents[["id", "domain"]].to_dict("records"),
        num_experts=4,
    )


def test_two_traces_of_the_same_texts(monkeypatch, tmp_path):
    a, b = routed_trace(), moved(routed_trace())
    paths = b.save(tmp_path / "b.trace"), a.save(tmp_path / "a.trace")
    test = opened(monkeypatch, *paths, page="compare")
    clean(test.selectbox(key="pinned").set_value("given-1").run())
    table = tables.agreement(a, b, by="domain")
    whole = table[table["layer"].isna() & (table["group"] == "all")]
    own = dict(zip(whole["metric"], estimate(whole), strict=True))
    shown = card_values(test)
    assert shown["tokens that differ in any layer"] == f"{own['any_layer_differs']:.1%}"
    assert shown["experts in common"] == f"{own['set_overlap']:.1%}"


def test_traces_of_different_texts(monkeypatch, tmp_path):
    paths = routed_trace().save(tmp_path / "a.trace"), routed_trace(length=50).save(tmp_path / "b.trace")
    test = opened(monkeypatch, *paths, page="compare")
    clean(test.selectbox(key="pinned").set_value("given-1").run())
    assert any("they are of the same texts, got document" in info.value for info in test.info)
    assert "Two traces of the same texts" in texts(test)


def test_the_address_bar_names_the_pinned_trace(monkeypatch, tmp_path):
    for name in ("a", "b", "c"):
        routed_trace().save(tmp_path / f"{name}.trace")
    paths = [tmp_path / f"{name}.trace" for name in ("a", "b", "c")]
    offered = opened(monkeypatch, *paths, page="compare").selectbox(key="pinned").options
    named = next(name for name in offered if name.startswith("c"))
    test = clean(opened(monkeypatch, *paths, page="compare", query={"pinned": named}))
    assert test.selectbox(key="pinned").value == "given-2"
    clean(test.selectbox(key="trace").set_value("given-2").run())
    assert test.selectbox(key="pinned").value != "given-2"
