"""The block that each document's sums are added to, chosen so that merging in any order gives the same blocks.

Up to 128 distinct documents have a block each, named by a 64-bit hash of the document's id. As soon as a union has
more, every block is folded into hash modulo 128, and folded blocks stay folded. Files of earlier versions are folded
modulo 64, which divides 128: a union with one of them is folded modulo 64 whenever it is joined. The modulus of a union
depends only on how many distinct documents it has and on the files among its parts, and the block of a document only
on its id: so merging is associative and commutative, and folding a part early gives the same blocks as folding late.
Two documents with the same id count as one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

MAX_BLOCKS = 128
MAX_BLOCKS_OF_VERSION_4 = 64
Keys = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of some documents."""

    keys: Keys
    """[number] ascending: hashes of document ids, or numbers below the modulus once folded."""
    modulus: int | None
    """What hashes are folded modulo; None where every document has a block of its own."""
    of_document: NDArray[np.intp]
    """[documents] the index of each document's block."""

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Blocks":
        """Assign documents to blocks by their ids."""
        return cls.of_keys(document_keys(ids))

    @classmethod
    def of_keys(cls, keys: Keys) -> "Blocks":
        """Assign documents to blocks by the hashes [documents] of their ids."""
        blocks, modulus = union_blocks((keys, None))
        return cls(blocks, modulus, block_positions(keys, blocks, modulus))

    @property
    def number(self) -> int:
        """The number of blocks."""
        return len(self.keys)

    @property
    def folded(self) -> bool:
        """Whether a block may hold several documents."""
        return self.modulus is not None


def document_keys(ids: Iterable[str]) -> Keys:
    """[documents] 64-bit BLAKE2b hashes of the documents' ids: the same on every machine and in every run."""
    digests = (blake2b(str(id_).encode("utf-8", "surrogatepass"), digest_size=8).digest() for id_ in ids)
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)


def folded_keys(keys: Keys, modulus: int | None) -> Keys:
    """[...] the block of each key in a set with this modulus, or None; a key folded before is in the same block."""
    return keys if modulus is None else keys % np.uint64(modulus)


def union_blocks(*parts: tuple[Keys, int | None]) -> tuple[Keys, int | None]:
    """Return the blocks of a union, ascending, and their modulus.

    Args:
        parts: (keys, modulus) of each part.
    """
    distinct = np.unique(np.concatenate([keys for keys, _ in parts]))
    moduli = [modulus for _, modulus in parts if modulus is not None]
    if len(distinct) > MAX_BLOCKS:
        moduli.append(MAX_BLOCKS)
    modulus = min(moduli, default=None)
    return np.unique(folded_keys(distinct, modulus)), modulus


def block_positions(keys: Keys, blocks: Keys, modulus: int | None) -> NDArray[np.intp]:
    """[keys] where in `blocks` each key's sums belong."""
    return np.searchsorted(blocks, folded_keys(keys, modulus))
