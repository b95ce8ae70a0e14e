"""How the text of a token is written: the bytes of vocabulary entries, and tokens that have no text."""

import json
import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class EntryBytes:
    """The bytes of a vocabulary's entries.

    Args:
        decoder: of the tokenizer, as ``tokenizer.json`` describes it. With "ByteLevel" in it entries spell bytes as
            GPT-2 does; else as SentencePiece, with ▁ and <0xE2>.
    """

    def __init__(self, decoder: Any) -> None:
        self._byte_of = _bytes_of_characters() if '"ByteLevel"' in json.dumps(decoder) else None

    def __call__(self, entry: str) -> bytes:
        """Return the bytes of one entry."""
        if self._byte_of is not None:
            return b"".join(self._byte_of.get(character, character.encode()) for character in entry)
        if match := _BYTE.fullmatch(entry):
            return bytes.fromhex(match[1])
        return entry.replace("▁", " ").encode()


def unknown_token(token_id: int) -> str:
    """Return ⟨id 8243⟩, for an id that no tokenizer at hand has a text for.

    A model's vocabulary may be larger than its tokenizer's, such as one that is padded to a multiple of 64.
    """
    return f"⟨id {token_id}⟩"


def _bytes_of_characters() -> dict[str, bytes]:
    """Return GPT-2's spelling of bytes (Radford et al. 2019): printable Latin-1 as is, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): bytes([byte]) for byte in printable}
    return characters | {chr(256 + i): bytes([byte]) for i, byte in enumerate(others)}
