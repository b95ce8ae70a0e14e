#!/usr/bin/env python3
"""Train the tokenizer of mixtral-mini: byte-level BPE over an even sample of the corpus domains.

    python data/mixtral-mini/train_tokenizer.py --corpus CORPUS

Writes `tokenizer.json` and `tokenizer_config.json` beside this file and prints the bytes per token of each domain.
As in Mixtral's own tokenizer, `<unk>`, `<s>`, `</s>` are 0, 1, 2, every digit is a token of its own, a document begins
with `<s>`, and no text is lost: decoding gives back exactly what was encoded.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
VOCABULARY = 8192
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
SAMPLE_BYTES = 1_500_000
LONGEST_TOKEN = 24
SEED = 0

# GPT-2's pattern (Radford et al. 2019), with digits one by one and with the accents after a letter kept beside it.
# The line break and the spaces of an indentation stay together, so that they can become one token.
WORDS = Regex(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}[\p{L}\p{M}]*| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+|\p{N}")


def blank_tokenizer() -> Tokenizer:
    """The tokenizer before training: no normalisation, so that every text comes back exactly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(WORDS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def texts_of(path: Path) -> list[str]:
    """The texts of a corpus file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def sample(corpus: Path) -> Iterator[str]:
    """About `SAMPLE_BYTES` of every domain's training documents, chosen by a fixed seed."""
    for path in sorted((corpus / "train").glob("*.jsonl")):
        texts = texts_of(path)
        random.Random(SEED).shuffle(texts)
        size = 0
        for text in texts:
            size += len(text.encode())
            if size > SAMPLE_BYTES:
                break
            yield text


def train(corpus: Path) -> Tokenizer:
    """Learn the merges and add the step that puts `<s>` before a document."""
    tokenizer = blank_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample(corpus), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def report(tokenizer: Tokenizer, corpus: Path) -> None:
    """Print the bytes of text per token of every domain's held-out documents."""
    for path in sorted((corpus / "heldout").glob("*.jsonl")):
        texts = texts_of(path)
        tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False))
        print(f"{path.stem:15s} {sum(len(t.encode()) for t in texts) / tokens:.2f} bytes per token")


def main() -> None:
    """Train on the corpus named on the command line and write the two files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by data/corpus/build.py")
    corpus = parser.parse_args().corpus
    tokenizer = train(corpus)
    tokenizer.save(str(HERE / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    report(tokenizer, corpus)


if __name__ == "__main__":
    main()
