"""Attention maps of a long text to disk: ``python benchmarks/attention.py [--rounds 5] [--positions 2048]``.

Each measurement is a fresh process. Speed: ours runs the text, records all layers' maps and writes them to disk;
transformers runs it with ``output_attentions=True`` and keeps them in memory. Memory: peak resident set of that process
against the same process running a plain forward pass.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

WAYS = ("ours plain", "ours to disk", "transformers plain", "transformers output_attentions")


def main() -> None:
    """Run every way in turn, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.positions, options.threads)))
        return
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--positions", str(options.positions)]
            out = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, check=True)
            runs[way].append(json.loads(out.stdout))
    middle = {way: {key: median(run[key] for run in runs[way]) for key in runs[way][0]} for way in WAYS}
    for way in WAYS:
        found = middle[way]
        spent = f"{found['seconds']:7.3f} s  {found['cpu']:7.3f} s CPU  peak {found['peak_mb']:7.0f} MB"
        print(f"{way:34s} {spent}")
    plain, disk, _, peer = (middle[way] for way in WAYS)
    wall, cpu = (peer[key] / disk[key] for key in ("seconds", "cpu"))
    print(f"speed, transformers output_attentions / ours to disk: wall {wall:.2f}, CPU {cpu:.2f}")
    print(f"peak memory, ours to disk / ours plain:              {disk['peak_mb'] / plain['peak_mb']:.2f}")


def measure(way: str, positions: int, threads: int) -> dict[str, float]:
    """Wall and CPU seconds of the second run and the peak memory of this process."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        run = (_ours if way.startswith("ours") else _theirs)(way, positions, Path(folder))
        run(0)
        wall, cpu = time.perf_counter(), time.process_time()
        run(1)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu": cpu, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _ours(way: str, positions: int, folder: Path):
    import torch

    import mixtral_probe as mp

    probe = mp.Probe.from_pretrained("mini")
    text = _text(probe.tokenizer, positions)
    if way == "ours to disk":
        return lambda number: probe.trace(text, attention="all", path=folder / f"{number}.trace", window=positions)
    ids = torch.tensor(probe.tokenizer.encode(text).ids, dtype=torch.int64)[None]
    return lambda number: _inference(probe.model, ids)


def _theirs(way: str, positions: int, folder: Path):
    import torch
    import transformers

    import mixtral_probe as mp
    from mixtral_probe.resources import data_path

    tokenizer = mp.Tokenizer.from_folder(data_path("mixtral-mini"))
    ids = torch.tensor(tokenizer.encode(_text(tokenizer, positions)).ids, dtype=torch.int64)[None]
    shown = way.endswith("output_attentions")
    model = transformers.MixtralForCausalLM.from_pretrained(
        data_path("mixtral-mini"), dtype="float32", attn_implementation="eager" if shown else None
    ).eval()
    return lambda number: _inference(model, ids, output_attentions=shown, use_cache=False)


def _inference(model, ids, **arguments):
    import torch

    with torch.inference_mode():
        return model(ids, logits_to_keep=1, **arguments)


def _text(tokenizer, positions: int) -> str:
    """Bundled prose of exactly that many tokens."""
    import mixtral_probe as mp

    text = "\n\n".join(d.text for d in mp.read_corpus("bundled") if d.labels["domain"] == "prose_en")
    return text[: int(tokenizer.encode(text).end[positions - 1])]


if __name__ == "__main__":
    main()
