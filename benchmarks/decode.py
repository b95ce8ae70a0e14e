"""Generation against transformers: ``python benchmarks/decode.py [--rounds 15] [--threads 2] [--json FILE]``."""

import argparse
import json

from decoders import CONTESTANTS, NEW, PROMPT, SHAPES
from rounds import compare

OURS, RECORDED, PEER, PEER_DEFAULT = CONTESTANTS
PAIRS = ((PEER, OURS), (PEER, RECORDED), (PEER_DEFAULT, RECORDED), (OURS, RECORDED))


def main() -> None:
    """Compare on every shape, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    results = {shape: compare("decoders", shape, PAIRS, options.rounds, options.threads) for shape in options.shapes}
    for shape, ratios in results.items():
        print(f"{shape}, {PROMPT} + {NEW} tokens, {options.rounds} rounds, {options.threads} threads")
        for pair, (wall, cpu) in ratios.items():
            print(f"  {pair:62s} wall {wall:.3f}  cpu {cpu:.3f}")
    if options.json:
        json.dump(results, options.json, indent=1)


if __name__ == "__main__":
    main()
