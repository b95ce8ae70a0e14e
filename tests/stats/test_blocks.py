"""Blocks of documents: one each up to 128, then folded; unions in any order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixtral_probe.stats import MAX_BLOCKS
from mixtral_probe.stats.blocks import Blocks, block_positions, union_blocks

hashes = st.sets(st.integers(0, 2**64 - 1), max_size=300)
MODULI = (None, 64, 128)


def part(keys, modulus):
    """Keys of a part as files have them: ascending, folded by its modulus."""
    keys = np.array(sorted(keys), np.uint64)
    return (np.unique(keys if modulus is None else keys % np.uint64(modulus)), modulus)


def test_documents_have_a_block_each_up_to_the_limit():
    few, many = Blocks.of(map(str, range(MAX_BLOCKS))), Blocks.of(map(str, range(MAX_BLOCKS + 1)))
    assert (few.number, few.folded, few.modulus) == (128, False, None)
    assert (many.folded, many.modulus) == (True, 128)
    assert many.keys.max() < 128


def test_a_file_folded_modulo_64_folds_the_union_modulo_64():
    keys, modulus = union_blocks(part({3, 63}, 64), part({67, 130}, None), part({127}, 128))
    assert modulus == 64
    assert keys.tolist() == [2, 3, 63]  # 130, then 3 and 67, then 63 and 127, modulo 64
    assert block_positions(np.array([67, 130, 127], np.uint64), keys, modulus).tolist() == [1, 0, 2]


@given(st.lists(st.tuples(hashes, st.sampled_from(MODULI)), min_size=3, max_size=3))
def test_unions_are_associative_and_commutative(parts):
    a, b, c = (part(*each) for each in parts)
    expected = union_blocks(a, b, c)
    for one, other, third in ((a, b, c), (b, c, a), (c, a, b)):
        for union in (union_blocks(union_blocks(one, other), third), union_blocks(third, union_blocks(other, one))):
            np.testing.assert_array_equal(union[0], expected[0])
            assert union[1] == expected[1]
