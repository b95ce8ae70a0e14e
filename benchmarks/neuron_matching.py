"""Greedy beside exact assignment of neurons: seconds, and the share of the largest sum of cosines that greedy reaches.

python benchmarks/neuron_matching.py [--device cpu] [--largest 14336] [--width 768]
"""

import argparse
import time

import torch

from mixtral_probe import metrics
from mixtral_probe.experiments.neuron_matching import greedy_assignment

EXACT_UP_TO = 4096


def main() -> None:
    """Print a line for each number of neurons; above ``EXACT_UP_TO`` no exact assignment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--largest", type=int, default=14336)
    parser.add_argument("--width", type=int, default=768, help="weights of a neuron")
    chosen = parser.parse_args()
    for neurons in (384, 1024, 2048, EXACT_UP_TO, 14336):
        if neurons <= chosen.largest:
            print(_line(neurons, chosen.width, chosen.device), flush=True)


def _line(neurons: int, width: int, device: str) -> str:
    draw = torch.Generator().manual_seed(neurons)
    one, other = (
        torch.nn.functional.normalize(torch.randn(neurons, width, generator=draw), dim=-1).to(device) for _ in range(2)
    )
    start = time.perf_counter()
    cosines = one @ other.T
    cosines[0, 0].item()
    product, start = time.perf_counter() - start, time.perf_counter()
    found = cosines.gather(1, greedy_assignment(cosines)[:, None]).mean().item()
    greedy, start = time.perf_counter() - start, time.perf_counter()
    bound = min(cosines.amax(axis).mean().item() for axis in (0, 1))
    words = f"{neurons:6} neurons: product {product:.3f} s, greedy {greedy:.3f} s, {found / bound:.1%} of its bound"
    if neurons > EXACT_UP_TO:
        return words
    start = time.perf_counter()
    order = torch.from_numpy(metrics.align_neurons(one.cpu().numpy(), other.cpu().numpy())).to(cosines.device)
    best = cosines.gather(1, order[:, None]).mean().item()
    return f"{words}; exact {time.perf_counter() - start:.3f} s, greedy reaches {found / best:.1%} of it"


if __name__ == "__main__":
    main()
