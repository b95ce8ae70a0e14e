"""Make the traces that ship: ``python data/make_traces.py --snapshots DIR``.

``data/example.trace``: what the first page opens, about 20,000 tokens of the bundled corpus, the beginnings of eight
documents of each domain, so that every domain has intervals; with per-head summaries of the attention.
``data/training_traces/``: the router at several steps of training on one small fixed set, ids and weights only.
"""

import argparse
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import mixtral_probe as mp

HERE = Path(__file__).parent
EXAMPLE_DOCUMENTS, EXAMPLE_TOKENS = 8, 205
"""Documents of each domain, and the most tokens of each: up to the last line or sentence that ends before."""
TRAINING_TOKENS = 400
"""Tokens of each domain, about: documents are taken whole until they are reached."""


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshots", type=Path, help="folder with the step-NNNNN.pt files of train.py")
    options = parser.parse_args()
    probe = mp.Probe.from_pretrained("mini")
    shutil.rmtree(HERE / "example.trace", ignore_errors=True)
    documents, path = beginnings(probe, EXAMPLE_DOCUMENTS, EXAMPLE_TOKENS), HERE / "example.trace"
    print(probe.trace(documents, path=path, attention="all", attention_maps=False))
    if options.snapshots:
        training_traces(probe, options.snapshots)


def beginnings(probe: mp.Probe, documents: int, tokens: int) -> list[Any]:
    """The beginnings of so many documents of every domain, evenly spaced in the corpus."""
    by_domain: dict[str, list[Any]] = {}
    for document in mp.read_corpus("bundled"):
        by_domain.setdefault(document.labels["domain"], []).append(document)
    kept = []
    for of_domain in by_domain.values():
        step = len(of_domain) // documents
        kept += [replace(document, text=beginning(probe, document.text, tokens)) for document in of_domain[::step]]
    return kept


def beginning(probe: mp.Probe, text: str, tokens: int) -> str:
    """A text up to the last line, sentence or word that ends within so many tokens."""
    start = probe.tokenizer.encode(text).start
    if len(start) <= tokens:
        return text
    cut = text[: start[tokens]]
    ends = [cut.rfind(end) + len(end.rstrip(" ")) for end in ("\n", ". ", " ") if cut.rfind(end) > len(cut) * 0.7]
    return cut[: ends[0]] if ends else cut


def chosen(probe: mp.Probe, tokens: int) -> list[Any]:
    """Documents of every domain, genres in turn, until each domain has about that many tokens."""
    kept: list[Any] = []
    sizes: dict[str, int] = {}
    for document in mp.read_corpus("bundled"):
        domain = document.labels["domain"]
        size = len(probe.tokenizer.encode(document.text).ids)
        if sizes.get(domain, 0) + size / 2 <= tokens:
            kept.append(document)
            sizes[domain] = sizes.get(domain, 0) + size
    return kept


def training_traces(probe: mp.Probe, snapshots: Path) -> None:
    """One trace for each snapshot, without logits."""
    documents = chosen(probe, TRAINING_TOKENS)
    shutil.rmtree(HERE / "training_traces", ignore_errors=True)
    for path in sorted(snapshots.glob("step-*.pt")):
        state = torch.load(path, weights_only=True)
        probe.model.load_state_dict({name: weight.float() for name, weight in state.items()})
        step = int(re.findall(r"\d+", path.stem)[0])
        probe.name = f"mixtral-mini at step {step}"
        print(probe.trace(documents, path=HERE / "training_traces" / f"{path.stem}.trace", router_logits=False))


if __name__ == "__main__":
    main()
