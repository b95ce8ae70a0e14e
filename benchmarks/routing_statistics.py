"""From routes to all statistics: ``python benchmarks/routing_statistics.py [--millions 1 10 100]``.

Traces of 125,000 tokens × 8 layers, a million (token, layer) routes each, are made one after another and added to the
same statistics; making them is not timed. The loop does the same counts token by token on a small part of one trace.
"""

import argparse
import math
import os
import resource
import time
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core

import numpy as np

import mixtral_probe as mp

LAYERS, TOKENS, EXPERTS, CHOSEN = 8, 125_000, 8, 2
LOOP_TOKENS = 500


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10], help="ascending numbers of million routes")
    options = parser.parse_args()
    stats, spent, done = None, 0.0, 0
    for millions in options.millions:
        for number in range(done, millions):
            trace = random_trace(number)
            start = time.process_time()
            stats = mp.RoutingStats.from_trace(trace, by="domain") if stats is None else stats.update(trace)
            spent += time.process_time() - start
        done = millions
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{millions:4d} million routes   {spent:7.1f} s CPU   peak {peak:.0f} MB")
    print(f"speed, loop / ours per route: {loop_seconds(random_trace(0)) / (spent / (done * 1e6)):.0f}")


def random_trace(seed: int) -> mp.Trace:
    """A million random routes of documents of a thousand tokens in 13 domains, word frequencies as in a text."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((LAYERS, TOKENS, EXPERTS), dtype=np.float32)
    words = generator.zipf(1.3, TOKENS) % 8192
    owner = np.arange(TOKENS) // 1000
    return mp.Trace.from_arrays(
        expert_ids=np.argsort(-logits, axis=-1)[..., :CHOSEN], router_logits=logits, token_ids=words, document=owner,
        predicted_id=np.roll(words, 1), num_experts=EXPERTS,
        documents=[{"id": f"{seed}-{i}", "domain": f"domain {i % 13}"} for i in range(owner[-1] + 1)],
    )  # fmt: skip


def loop_seconds(trace: mp.Trace) -> float:
    """CPU seconds per route of a loop over tokens and layers that keeps the same counts."""
    logits, ids = trace.router_logits[:, :LOOP_TOKENS].tolist(), trace.expert_ids[:, :LOOP_TOKENS].tolist()
    words = trace.tokens["token_id"].to_numpy()[: LOOP_TOKENS + 1].tolist()
    count: Counter[tuple] = Counter()
    start = time.process_time()
    for layer in range(LAYERS):
        for token in range(LOOP_TOKENS):
            one(count, layer, token, logits[layer][token], ids, words)
    return (time.process_time() - start) / (LAYERS * LOOP_TOKENS)


def one(count: Counter, layer: int, token: int, z: list[float], ids: list, words: list[int]) -> None:
    """The counts of one token in one layer."""
    chosen = ids[layer][token]
    top = max(z)
    total = sum(math.exp(v - top) for v in z)
    p = [math.exp(v - top) / total for v in z]
    ranked = sorted(z, reverse=True)
    count["z", layer] += (top + math.log(total)) ** 2
    sure = (-sum(v * math.log(v) for v in p) / math.log(EXPERTS), max(p), sum(p[e] for e in chosen),
            (ranked[CHOSEN - 1] - ranked[CHOSEN]) / 16, (ranked[0] - ranked[1]) / 16)  # fmt: skip
    for number, value in enumerate(sure):
        count["sum", layer, number] += value
        count["bin", layer, number, min(int(value * 128), 127)] += 1
    for expert, value in enumerate(p):
        count["p", layer, expert] += value
    for rank, expert in enumerate(chosen):
        count["load", layer, rank, expert] += 1
        count["gate", layer, expert] += p[expert] / sure[2]
        count["position", layer, (token % 1000).bit_length(), expert] += 1
        for target, word in enumerate((words[token], words[token - 1], words[token + 1])):
            count["word", layer, target, word, expert] += 1
        for other in chosen:
            if other != expert:
                count["pair", layer, expert, other] += 1
    for lag in range(1, min(9, LOOP_TOKENS - token)):
        later = ids[layer][token + lag]
        count["lag", layer, lag, chosen[0] == later[0], len({*chosen} & {*later})] += 1
    if layer + 1 < LAYERS:
        count["next", layer, chosen[0], ids[layer + 1][token][0]] += 1


if __name__ == "__main__":
    main()
