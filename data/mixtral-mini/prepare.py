#!/usr/bin/env python3
"""Turn the corpus into token streams for training.

    python data/mixtral-mini/prepare.py --corpus CORPUS --out TOKENS

Writes `TOKENS/<domain>.npy` and `TOKENS/heldout/<domain>.npy`: uint16 ids, documents one after another, each beginning
with `<s>`, so that a training row may start anywhere. In the training streams a genre much smaller than its domain's
largest is repeated, or a language would be little but its Bible.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

HERE = Path(__file__).parent
BATCH = 256
MOST_REPEATS = 8


def read(path: Path, balance: bool) -> list[str]:
    """The texts of a corpus file; to balance, small genres are repeated up to half the size of the largest."""
    genres: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            genres.setdefault(row["genre"], []).append(row["text"])
    sizes = {genre: sum(map(len, texts)) for genre, texts in genres.items()}
    half = max(sizes.values()) / 2
    repeats = {genre: min(MOST_REPEATS, max(1, round(half / size))) if balance else 1 for genre, size in sizes.items()}
    return [text for genre, texts in genres.items() for text in texts * repeats[genre]]


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> tuple[npt.NDArray[np.uint16], int]:
    """([T] ids, bytes of text) of all documents."""
    parts = [
        np.array(encoding.ids, dtype=np.uint16)
        for start in range(0, len(texts), BATCH)
        for encoding in tokenizer.encode_batch_fast(texts[start : start + BATCH])
    ]
    return np.concatenate(parts), sum(len(text.encode()) for text in texts)


def main() -> None:
    """Tokenise every domain, training and held-out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by data/corpus/build.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the token streams")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    # A document may contain the characters "<s>" (in HTML they strike out); they are text there, not a beginning.
    tokenizer.encode_special_tokens = True
    for part, folder in (("heldout", arguments.out / "heldout"), ("train", arguments.out)):
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted((arguments.corpus / part).glob("*.jsonl")):
            ids, size = tokenize(tokenizer, read(path, balance=part == "train"))
            np.save(folder / f"{path.stem}.npy", ids)
            print(f"{part:8s}{path.stem:15s} {len(ids):>10,} tokens, {size / len(ids):.2f} bytes per token", flush=True)


if __name__ == "__main__":
    main()
