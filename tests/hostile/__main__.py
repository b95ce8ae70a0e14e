"""Run every reader for some minutes and print the figures: `python -m tests.hostile --minutes 30 [--only NAME]`."""

import argparse
import sys
import time

from tests.hostile.outcome import Figures, tried
from tests.hostile.readers import READERS


def main() -> None:
    """Share the time among the readers and print one line for each, and every other error once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--only", default="", help="part of the names of the readers")
    given = parser.parse_args()
    readers = [reader for reader in READERS if given.only in reader.name]
    print("| reader | inputs | refused | accepted | tracebacks | slowest, s (seed) | peak, MB |\n" + "|---" * 7 + "|")
    everything = {}
    for reader in readers:
        end = time.monotonic() + 60 * given.minutes / len(readers)
        everything[reader.name] = figures = tried(reader, range(given.first, sys.maxsize), until=end)
        print(_line(reader.name, figures), flush=True)
    total = Figures(*(sum(getattr(f, name) for f in everything.values()) for name in ("inputs", "refused", "accepted")))
    total.tracebacks = sum(figures.tracebacks for figures in everything.values())
    total.slowest = max(figures.slowest for figures in everything.values())
    total.peak_bytes = max(figures.peak_bytes for figures in everything.values())
    print(_line("all", total))
    for name, figures in everything.items():
        for fault, text in figures.faults.items():
            print(f"\n## {name}: {fault}\n{text}")


def _line(name: str, figures: Figures) -> str:
    numbers = (figures.inputs, figures.refused, figures.accepted, figures.tracebacks)
    counts = " | ".join(f"{number:,}" for number in numbers)
    return f"| {name} | {counts} | {figures.slowest:.1f} ({figures.slowest_seed}) | {figures.peak_bytes / 1e6:.0f} |"


if __name__ == "__main__":
    main()
