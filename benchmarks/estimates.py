"""Seconds of estimates beside those of the runs they are about.

    python benchmarks/estimates.py [--model mini|wide] [--device cpu] [--wall]

Seconds are those of this process's CPU time, which other programs do not lengthen; ``--wall``, and always on an
accelerator, by the clock that estimates use.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

import mixtral_probe as mp
from mixtral_probe import edits
from mixtral_probe.corpus import read_corpus
from mixtral_probe.run import calibration

WIDE: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 4, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 8192,
}  # fmt: skip


class CpuClock:
    """The CPU time of this process."""

    name = "CPU time"

    def mark(self) -> float:
        """Return seconds."""
        return time.process_time()

    def seconds(self, marks: Any) -> np.ndarray:
        """[marks] since the first."""
        return np.array(marks) - marks[0]


def cases(probe: mp.Probe) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Name, estimate and run of each case."""
    documents = read_corpus("bundled")
    long = probe.plan(documents[:3])
    short = probe.plan([document.text[:200] for document in documents[:24]])
    prompts = probe.plan([document.text[:200] for document in documents[:4]], cut=False)
    edited = [edits.MaskExpert(layer=2, expert=3)]
    few: dict[str, Any] = {"layers": [2], "experts": [0], "placebos": 2}
    for name, planned in (("long", long), ("short", short)):
        for attention in (None, "all"):
            words = f"capture, {name}{', attention' if attention else ''}"
            how: dict[str, Any] = {"attention": attention}
            yield words, partial(probe.estimate, planned, **how), partial(probe.trace, planned, **how)
    new = partial(probe.trace, prompts, generate=24, min_new_tokens=24)
    yield "generation of 24 tokens, 4 texts", partial(probe.estimate, prompts, generate=24), new
    yield "logit lens", partial(probe.estimate_logit_lens, short), partial(probe.logit_lens, short)
    yield "saliency", partial(probe.estimate_saliency, short), partial(probe.saliency, short)
    what = partial(probe.what_if, short, edited, placebos=3)
    yield "what-if", partial(probe.estimate_what_if, short, edited, placebos=3), what
    yield "ablation", partial(probe.estimate_ablation, short, **few), partial(probe.ablation, short, **few)
    if probe.model.config.intermediate_size < 1000:
        yield "similarity", partial(probe.estimate_similarity, short), partial(probe.similarity, short)


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mini", "wide"), default="mini")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--wall", action="store_true")
    chosen = parser.parse_args()
    probe = mp.Probe.from_pretrained("mini", device=chosen.device)
    if chosen.model == "wide":
        torch.manual_seed(0)
        probe = mp.Probe(mp.MixtralForCausalLM(mp.MixtralConfig(**WIDE)).to(chosen.device), probe.tokenizer, "wide")
    clock: Any = calibration.clock_for(torch.device(chosen.device))
    if chosen.device == "cpu" and not chosen.wall:
        clock = CpuClock()
        calibration.clock_for = lambda device: clock
    probe.trace("a first run, which loads what it needs")
    for name, estimate, run in cases(probe):
        _compare(name, estimate, run, clock)


def _compare(name: str, estimate: Callable[[], Any], run: Callable[[], Any], clock: Any) -> None:
    first = time.perf_counter()
    expected = estimate()
    taken = time.perf_counter() - first
    marks = [clock.mark()]
    run()
    real = clock.seconds([*marks, clock.mark()])[1]
    line = f"{name:34} {expected.seconds:7.2f} s estimated, {real:7.2f} s real: {expected.seconds / real:.2f}"
    print(f"{line} ({taken:.1f} s to estimate)", flush=True)


if __name__ == "__main__":
    main()
