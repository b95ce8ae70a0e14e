"""From routes to all statistics: ``python benchmarks/routing_statistics.py [--millions 1 10 100] [--words N]``.

Traces of 125,000 tokens × 8 layers, a million (token, layer) routes each, are made one after another and added to the
same statistics; making them is not timed. The loop does the same counts token by token on a small part of one trace.
"""

import argparse
import os
import resource
import time
from collections import defaultdict

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core

import numpy as np

import mixtral_probe as mp

LAYERS, TOKENS, EXPERTS, CHOSEN = 8, 125_000, 8, 2
LOOP_TOKENS = 500


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10], help="ascending numbers of million routes")
    parser.add_argument("--words", type=int, help="as many words alike instead of 8192 as in a text: all are soon met")
    options = parser.parse_args()
    stats, spent, done = None, 0.0, 0
    for millions in options.millions:
        for number in range(done, millions):
            trace = random_trace(number, options.words)
            start = time.process_time()
            stats = mp.RoutingStats.from_trace(trace, by="domain") if stats is None else stats.update(trace)
            spent += time.process_time() - start
            del trace  # before the next is made
        done = millions
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{millions:4d} million routes   {spent:7.1f} s CPU   {held(stats):4.0f} MB of sums   peak {peak:.0f} MB")
    print(f"repeat: python benchmarks/routing_statistics.py --millions {' '.join(map(str, options.millions))}")
    print(f"speed, loop / ours per route: {loop_seconds(random_trace(0)) / (spent / (done * 1e6)):.0f}")


def held(stats: mp.RoutingStats) -> float:
    """MB that the statistics hold."""
    parts = (stats.sums, stats.value_sums, stats.structure)
    arrays = [*(array for part in parts for array in part.arrays().values()), stats.histogram]
    return sum(array.nbytes for array in [*arrays, stats.affinity.keys, stats.affinity.byte_counts]) / 2**20


def random_trace(seed: int, alike: int | None = None) -> mp.Trace:
    """A million random routes of documents of a thousand tokens in 13 domains, word frequencies as in a text."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((LAYERS, TOKENS, EXPERTS), dtype=np.float32)
    words = generator.zipf(1.3, TOKENS) % 8192 if alike is None else generator.integers(0, alike, TOKENS)
    owner = np.arange(TOKENS) // 1000
    return mp.Trace.from_arrays(
        expert_ids=np.argsort(-logits, axis=-1)[..., :CHOSEN], router_logits=logits, token_ids=words, document=owner,
        predicted_id=np.roll(words, 1), num_experts=EXPERTS,
        documents=[{"id": f"{seed}-{i}", "domain": f"domain {i % 13}"} for i in range(owner[-1] + 1)],
    )  # fmt: skip


def loop_seconds(trace: mp.Trace) -> float:
    """CPU seconds per route of a loop over tokens and layers that keeps the same counts in dictionaries.

    Modelled on the routing analyses that are published with mixture-of-experts models: the arrays a model returned are
    indexed token by token, numpy takes a token's softmax and order, and counters named by layer and domain add up.
    """
    words, documents = trace.tokens["token_id"].to_numpy()[: LOOP_TOKENS + 1], trace.tokens["document"].to_numpy()
    domains, count = trace.documents["domain"].to_numpy(), defaultdict(float)
    start = time.process_time()
    for layer in range(LAYERS):
        for token in range(LOOP_TOKENS):
            one(count, (layer, domains[documents[token]]), token, trace.router_logits, trace.expert_ids, words)
    return (time.process_time() - start) / (LAYERS * LOOP_TOKENS)


def one(count: dict, key: tuple, token: int, logits: np.ndarray, expert_ids: np.ndarray, words: np.ndarray) -> None:
    """The counts of one token in one layer; logits [L, T, E], expert ids [L, T, K], words [T]."""
    layer = key[0]
    z, chosen = logits[layer, token].astype(np.float64), expert_ids[layer, token]
    exponentials = np.exp(z - z.max())
    p = exponentials / exponentials.sum()
    ranked = np.sort(z)[::-1]
    count["tokens", key] += 1
    count["z", key] += (z.max() + np.log(exponentials.sum())) ** 2
    sure = {
        "entropy": -(p * np.log(p)).sum() / np.log(EXPERTS),
        "top1": p.max(),
        "mass": p[chosen].sum(),
        "selection margin": ranked[CHOSEN - 1] - ranked[CHOSEN],
        "order margin": ranked[0] - ranked[1],
    }
    for name, value in sure.items():
        count["sum", key, name] += value
        count["bin", key, name, min(int(value / (16 if "margin" in name else 1) * 128), 127)] += 1
    for expert in range(EXPERTS):
        count["p", key, expert] += p[expert]
    for rank, expert in enumerate(chosen):
        count["load", key, rank, expert] += 1
        count["gate", key, expert] += p[expert] / p[chosen].sum()
        count["position", key, (token % 1000).bit_length(), expert] += 1
        for target, place in (("input", token), ("predicted", token - 1), ("next", token + 1)):
            count["word", key, target, words[place], expert] += 1
        for other in chosen:
            if other != expert:
                count["pair", key, expert, other] += 1
    for lag in range(1, min(9, LOOP_TOKENS - token)):
        later = expert_ids[layer, token + lag]
        count["lag", key, lag, chosen[0] == later[0], len(set(chosen) & set(later))] += 1
    if layer + 1 < LAYERS:
        count["next", key, chosen[0], expert_ids[layer + 1, token, 0]] += 1
        for expert in chosen:
            for other in expert_ids[layer + 1, token]:
                count["next of all", key, expert, other] += 1


if __name__ == "__main__":
    main()
