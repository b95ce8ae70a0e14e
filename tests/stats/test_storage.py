"""Files of statistics: only cells that occur, and those of version 4."""

import numpy as np
import pytest
from safetensors import safe_open

from mixtral_probe.stats import RoutingStats, document_keys
from tests.support.routing import random_trace
from tests.support.statistics import save_as_version_4


@pytest.mark.parametrize("documents", [7, 100])
def test_version_4_is_read(tmp_path, documents):
    stats = RoutingStats.from_trace(random_trace(documents=documents), by="domain")
    save_as_version_4(stats, tmp_path / "old")
    old = RoutingStats.load(tmp_path / "old")
    assert old.modulus == (64 if documents > 64 else None)
    for part in ("sums", "structure"):
        for name, array in getattr(old, part).arrays().items():
            total = getattr(stats, part).arrays()[name].sum(2)
            np.testing.assert_allclose(array.sum(2), total, rtol=1e-12, atol=1e-13, err_msg=name)
    np.testing.assert_array_equal(old.histogram, stats.histogram)
    np.testing.assert_array_equal(old.affinity.counts, stats.affinity.counts)


@pytest.mark.parametrize("documents", [100, 200])
def test_a_folded_file_of_version_4_merges_with_new_statistics(tmp_path, documents):
    traces = [random_trace(seed, documents=100 if seed else documents) for seed in range(2)]
    old, new = (RoutingStats.from_trace(trace, by="domain") for trace in traces)
    save_as_version_4(old, tmp_path / "old")
    merged = RoutingStats.load(tmp_path / "old").merge(new)
    assert merged.modulus == 64
    tokens = np.zeros((3, 64), int)  # by hand: the hash of each document's id modulo 64
    for trace in traces:
        of_token = trace.tokens["document"].to_numpy()
        block = (document_keys(trace.documents["id"]) % np.uint64(64)).astype(int)[of_token]
        np.add.at(tokens, (of_token % 3, block), 1)  # documents take the domains in turn
    np.testing.assert_array_equal(merged.sums.tokens[0], tokens[:, merged.block_keys.astype(int)])
    assert tokens.sum() == merged.sums.tokens[0].sum()


def test_a_file_has_only_the_cells_that_occur(tmp_path):
    stats = RoutingStats.from_trace(random_trace(documents=9), by="domain")
    stats.save(tmp_path / "new")
    with safe_open(tmp_path / "new", framework="numpy") as file:
        assert file.get_tensor("cells").tolist() == np.flatnonzero(stats.sums.tokens[0]).tolist()
        assert file.get_slice("load").get_shape() == [3, 9, 2, 8]  # 9 documents, each in one of 3 domains
