"""Held-out figures of the embedded model: ``python data/mixtral-mini/evaluate.py --corpus TRAIN --out FILE.json``.

Bits per byte of every domain's held-out documents, with two dead simple baselines beside them; what it costs to send
every token to the experts of another token of its document; how evenly experts are used; samples.
"""

import argparse
import json
import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np
from ngram import Trigram

import mixtral_probe as mp

CONTEXT_BYTES = 1_000_000
TRIGRAM_DOCUMENTS = 500
SAMPLE_TOKENS = 120
PROMPTS = {
    "prose_en": "It was a fine morning, and Elizabeth",
    "dialogue_en": "HAMLET.\nMy lord,",
    "python_code": "class Reader:\n    def __init__(self, path):",
    "c_code": "static int\n",
    "math_exercises": "What is",
    "legal": "Permission is hereby granted,",
    "french": "Au commencement, Dieu",
    "spanish": "Y dijo Dios:",
    "russian": "И сказал Господь",
    "italian": "E il Signore disse",
}


def main() -> None:
    """Evaluate and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="training text, <domain>.jsonl, for the baselines")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    probe = mp.Probe.from_pretrained("mini")
    documents = mp.read_corpus("bundled")
    trace = probe.trace(documents)
    shuffled = probe.trace(documents, instruments=[mp.edits.RandomRouting()])
    results = {
        "bits_per_byte": bits_per_byte(trace, documents),
        "bits_per_byte_random_routing": bits_per_byte(shuffled, documents),
        **baselines(options.corpus, documents, probe.tokenizer),
        **load(trace),
        "samples": {
            domain: prompt + probe.generate(prompt, SAMPLE_TOKENS, seed=0, do_sample=True, temperature=0.7)
            for domain, prompt in PROMPTS.items()
        },
    }
    for name in [key for key in results if key.startswith("bits_per_byte")]:
        results[f"mean_{name}"] = sum(results[name].values()) / len(results[name])
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False))
    print(json.dumps({key: value for key, value in results.items() if key != "samples"}, indent=1))


def bits_per_byte(trace: mp.Trace, documents: list[Any]) -> dict[str, float]:
    """Σ nll / ln 2 / Σ bytes of each domain's documents; every token of the text is predicted, the first from BOS."""
    nats = trace.tokens.groupby("document")["nll"].sum().to_numpy(float)
    sizes = np.array([len(document.text.encode()) for document in documents])
    domains = np.array([document.labels["domain"] for document in documents])
    return {d: nats[domains == d].sum() / math.log(2) / sizes[domains == d].sum() for d in sorted(set(domains))}


def baselines(corpus: Path, documents: list[Any], tokenizer: mp.Tokenizer) -> dict[str, dict[str, float]]:
    """xz of the documents after a megabyte of the domain's training text, and a trigram model of our tokens."""
    compressed, trigrams = {}, {}
    for domain in sorted({document.labels["domain"] for document in documents}):
        texts = [d.text for d in documents if d.labels["domain"] == domain]
        with (corpus / f"{domain}.jsonl").open(encoding="utf-8") as file:
            training = [json.loads(line)["text"] for line in file]
        size = sum(len(text.encode()) for text in texts)
        before = "\n".join(training).encode()[-CONTEXT_BYTES:]
        alone = len(lzma.compress(before))
        compressed[domain] = (len(lzma.compress(before + "\n".join(texts).encode())) - alone) * 8 / size
        some = training[:: max(1, len(training) // TRIGRAM_DOCUMENTS)]
        model = Trigram([tokenizer.encode(text).ids for text in some])
        trigrams[domain] = sum(model.bits(tokenizer.encode(text).ids) for text in texts) / size
    return {"bits_per_byte_xz": compressed, "bits_per_byte_trigram": trigrams}


def load(trace: mp.Trace) -> dict[str, Any]:
    """Normalised load entropy of each layer, and the number of experts never chosen."""
    table = mp.tables.balance(mp.RoutingStats.from_trace(trace))
    entropy = table[table["metric"] == "normalized_entropy"]
    dead = table[table["metric"] == "dead_experts"]
    return {
        "normalized_load_entropy": dict(zip(entropy["layer"].astype(str), entropy["value"].round(4), strict=True)),
        "dead_experts": int(dead["value"].sum()),
    }


if __name__ == "__main__":
    main()
