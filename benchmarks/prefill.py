"""Prefill against transformers: ``python benchmarks/prefill.py [--rounds 21] [--threads 2] [--json FILE]``."""

import argparse
import json

from contestants import CONTESTANTS, SHAPES
from rounds import compare

OURS, CAPTURE, PEER, PEER_DEFAULT = CONTESTANTS
PAIRS = ((PEER, OURS), (PEER, CAPTURE), (PEER_DEFAULT, CAPTURE), (OURS, CAPTURE))


def main() -> None:
    """Compare on every shape, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    results = {shape: compare("contestants", shape, PAIRS, options.rounds, options.threads) for shape in SHAPES}
    for shape, ratios in results.items():
        print(f"{shape} {SHAPES[shape]['batch']}, {options.rounds} rounds, {options.threads} threads")
        for pair, (wall, cpu) in ratios.items():
            print(f"  {pair:62s} wall {wall:.3f}  cpu {cpu:.3f}")
    if options.json:
        json.dump(results, options.json, indent=1)


if __name__ == "__main__":
    main()
