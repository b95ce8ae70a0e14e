"""Prefill against transformers: ``python benchmarks/prefill.py [--rounds 21] [--threads 2] [--json FILE]``."""

import argparse
import json
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

from contestants import CONTESTANTS, SHAPES

OURS, CAPTURE, PEER, PEER_DEFAULT = CONTESTANTS
PAIRS = ((PEER, OURS), (PEER, CAPTURE), (PEER_DEFAULT, CAPTURE), (OURS, CAPTURE))
WARM_UP = 3


def main() -> None:
    """Compare on every shape, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    results = {shape: compare(shape, options.rounds, options.threads) for shape in SHAPES}
    for shape, ratios in results.items():
        print(f"{shape} {SHAPES[shape]['batch']}, {options.rounds} rounds, {options.threads} threads")
        for pair, (wall, cpu) in ratios.items():
            print(f"  {pair:62s} wall {wall:.3f}  cpu {cpu:.3f}")
    if options.json:
        json.dump(results, options.json, indent=1)


def compare(shape: str, rounds: int, threads: int) -> dict[str, tuple[float, float]]:
    """Median over rounds of the ratio of each pair, wall and CPU."""
    context = get_context("spawn")
    workers = {}
    for name in CONTESTANTS:
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, name, shape, threads), daemon=True).start()
        assert here.recv() == "ready"
        workers[name] = here
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds + WARM_UP):
        order = list(CONTESTANTS)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            workers[name].send("go")
            seconds = workers[name].recv()
            if number >= WARM_UP:
                times[name].append(seconds)
    for here in workers.values():
        here.send("stop")
    return {f"{a} / {b}": _ratios(times[a], times[b]) for a, b in PAIRS}


def _ratios(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = ([x[i] / y[i] for x, y in zip(a, b, strict=True)] for i in (0, 1))
    return round(median(wall), 3), round(median(cpu), 3)


def serve(pipe: Connection, name: str, shape: str, threads: int) -> None:
    """In a process of its own: run one round whenever asked, answer with wall and CPU seconds."""
    import torch

    torch.set_num_threads(threads)
    one = CONTESTANTS[name](shape)
    pipe.send("ready")
    while pipe.recv() == "go":
        wall, cpu = time.perf_counter(), time.process_time()
        one()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


if __name__ == "__main__":
    main()
