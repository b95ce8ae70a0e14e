"""Links written by the dashboard before its modules were renamed still open what they name."""

from urllib.parse import parse_qs

import pytest

from tests.support.app_traces import clean, opened
from tests.support.attention_traces import attentive_trace

LINKS = {
    "expert_load": "trace=links.trace&layer=1&group=prose&where=%40middle&slice=middle%3Atoken.number+in+3..9"
    "&load=gate_share&expert=3&load_map_table=shown&load_bars_table=shown&real=shown&real_group=mmlu",
    "token_routing": "trace=links.trace&layer=1&document=2&picked=7&pinned_token=3.5&rank=1&unit=word&beside_layer=0"
    "&expert=2&found_layer=any+layer&found_in=all+documents&found_order=strongest+first"
    "&routes_all_layers=shown&routes_table=hidden",
    "balance_loss": "trace=links.trace&layer=1&group=code&document=2&part=contribution&loss_by_domain=shown"
    "&variants=shown&loss_table=shown&loss_tokens_table=shown",
    "attention": "trace=links.trace&layer=1&document=1&head=2&attention_measure=distance&attention_way=seen"
    "&attention_by_expert=shown&attention_effect=distance_difference&heads_map_table=shown",
    "specialization": "trace=links.trace&layer=1&section=layers&choices=all&steps=5&transitions_table=shown",
    "what_if": "trace=links.trace&text=one+two+three&edit=bias_router&edit_layers=1..3&edit_expert=2&edit_bias=4"
    "&more=mask_expert+expert%3D3+layer%3D2&pinned_edit=temperature+layer%3D0..7+temperature%3D2",
    "experts": "trace=links.trace&layer=1&group=prose&expert=3&pair_metric=coactivation_lift&partners_table=shown",
    "serving": "trace=links.trace&layer=1&serving=cache_simulation&cache_simulation_table=shown",
}
"""Page and query, with every kind of choice."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return attentive_trace().save(tmp_path_factory.mktemp("links") / "links.trace")


@pytest.mark.parametrize("page", LINKS)
def test_a_link_opens_and_stays_as_it_was_written(monkeypatch, path, page):
    query = {key: texts[-1] for key, texts in parse_qs(LINKS[page]).items()}
    test = clean(opened(monkeypatch, path, page=page, query=query))
    assert [warning.value for warning in test.warning] == []
    written = {key: texts if isinstance(texts, str) else texts[-1] for key, texts in test.query_params.items()}
    assert written == query
