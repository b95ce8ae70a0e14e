"""Contestants in processes of their own, one round after the other in turn, so that a busy moment hits all alike."""

import time
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

WARM_UP = 3


def compare(
    module: str, shape: str, pairs: Sequence[tuple[str, str]], rounds: int, threads: int
) -> dict[str, tuple[float, float]]:
    """Median over rounds of the ratio of each pair, wall and CPU; ``module`` holds ``CONTESTANTS`` by name."""
    context, workers = get_context("spawn"), {}
    names = list(import_module(module).CONTESTANTS)
    for name in names:
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, module, name, shape, threads), daemon=True).start()
        assert here.recv() == "ready"
        workers[name] = here
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds + WARM_UP):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            workers[name].send("go")
            seconds = workers[name].recv()
            if number >= WARM_UP:
                times[name].append(seconds)
    for here in workers.values():
        here.send("stop")
    return {f"{a} / {b}": _ratios(times[a], times[b]) for a, b in pairs}


def _ratios(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = ([x[i] / y[i] for x, y in zip(a, b, strict=True)] for i in (0, 1))
    return round(median(wall), 3), round(median(cpu), 3)


def serve(pipe: Connection, module: str, name: str, shape: str, threads: int) -> None:
    """In a process of its own: run one round whenever asked, answer with wall and CPU seconds."""
    import torch

    torch.set_num_threads(threads)
    one = import_module(module).CONTESTANTS[name](shape)
    pipe.send("ready")
    while pipe.recv() == "go":
        wall, cpu = time.perf_counter(), time.process_time()
        one()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))
