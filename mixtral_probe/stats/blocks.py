"""The block that each document's sums are added to, chosen so that merging in any order gives the same blocks.

Up to 64 distinct documents have a block each, named by a 64-bit hash of the document's id. As soon as a union has
more, every block is folded into hash modulo 64, and folded blocks stay folded. Whether the final union is folded
depends only on how many distinct documents it has, and the block of a document only on its id: so merging is
associative and commutative, and folding a part early gives the same blocks as folding late.
Two documents with the same id count as one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

MAX_BLOCKS = 64
Keys = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of some documents."""

    keys: Keys
    """[number] ascending: hashes of document ids, or numbers below 64 once folded."""
    folded: bool
    """Whether a block may hold several documents."""
    of_document: NDArray[np.intp]
    """[documents] the index of each document's block."""

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Blocks":
        """Assign documents to blocks by their ids."""
        return cls.of_keys(document_keys(ids))

    @classmethod
    def of_keys(cls, keys: Keys) -> "Blocks":
        """Assign documents to blocks by the hashes [documents] of their ids."""
        blocks, folded = union_blocks((keys, False))
        return cls(blocks, folded, block_positions(keys, blocks, folded))

    @property
    def number(self) -> int:
        """The number of blocks."""
        return len(self.keys)


def document_keys(ids: Iterable[str]) -> Keys:
    """[documents] 64-bit BLAKE2b hashes of the documents' ids: the same on every machine and in every run."""
    digests = (blake2b(str(id_).encode("utf-8", "surrogatepass"), digest_size=8).digest() for id_ in ids)
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)


def folded_keys(keys: Keys) -> Keys:
    """[...] each key's block among the 64 of a folded set; a folded key is its own block."""
    return keys % np.uint64(MAX_BLOCKS)


def union_blocks(*parts: tuple[Keys, bool]) -> tuple[Keys, bool]:
    """Return the blocks of a union, ascending, and whether they are folded.

    Args:
        parts: (keys, folded) of each part.
    """
    folded = any(was_folded for _, was_folded in parts)
    distinct = np.unique(np.concatenate([keys for keys, _ in parts]))
    if folded or len(distinct) > MAX_BLOCKS:
        return np.unique(folded_keys(distinct)), True
    return distinct, False


def block_positions(keys: Keys, blocks: Keys, folded: bool) -> NDArray[np.intp]:
    """[keys] where in `blocks` each key's sums belong."""
    return np.searchsorted(blocks, folded_keys(keys) if folded else keys)
