"""Fine-tune a model on one domain and see its routers move: ``python analyses/finetune_domain.py --domain french``.

The last documents of the domain are not trained on: before and after, the model reads them, and the loads are compared.
Writes expert_load.csv, expert_load.html and the fine-tuned model.
"""

import argparse
import math
import random
from pathlib import Path

import torch

import mixtral_probe as mp

LENGTH, ROWS = 128, 4


def main() -> None:
    """Read, train, read again, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini", help="a model folder")
    parser.add_argument("--corpus", default="bundled", help="documents with domains")
    parser.add_argument("--domain", default="french")
    parser.add_argument("--out", type=Path, default=Path("finetuned"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--heldout", type=int, default=6, help="documents to compare on")
    options = parser.parse_args()
    source = options.corpus if options.corpus == "bundled" else Path(options.corpus)
    documents = [d for d in mp.read_corpus(source) if d.labels.get("domain") == options.domain]
    if len(documents) <= options.heldout:
        parser.error(f"{options.domain!r} must have more than {options.heldout} documents, but has {len(documents)}")
    probe = mp.Probe.from_pretrained(options.model if options.model == "mini" else Path(options.model))
    heldout = documents[-options.heldout :]
    before = read(probe, heldout, "before")
    finetune(probe, documents[: -options.heldout], options.steps, options.rate)
    after = read(probe, heldout, "after")
    table = mp.tables.expert_load(before.merge(after))
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "expert_load.csv", index=False)
    mp.figures.expert_load_groups(table).write_html(options.out / "expert_load.html")
    probe.model.save_pretrained(options.out / "model")
    share = table[table["metric"] == "share"].pivot(index=["layer", "expert"], columns="group", values="value")
    moved = (share["after"] - share["before"]).sort_values(key=abs, ascending=False)
    print("share of assignments, most moved first:")
    print(share.loc[moved.index[:8], ["before", "after"]].to_string())


def read(probe: mp.Probe, documents: list, moment: str) -> mp.RoutingStats:
    """Statistics of one reading, as a group of their own; prints how well the documents were predicted."""
    trace = probe.trace([{"id": d.id, "text": d.text, "moment": moment} for d in documents])
    print(f"{moment}: {trace.tokens['nll'].mean() / math.log(2):.3f} bits per token")
    return mp.RoutingStats.from_trace(trace, by="moment")


def finetune(probe: mp.Probe, documents: list, steps: int, rate: float) -> None:
    """Some steps of AdamW on random pieces, with the balance loss of the model's own config."""
    stream = torch.tensor([i for d in documents for i in probe.tokenizer.encode(d.text).ids], dtype=torch.int64)
    model, draw = probe.model.train(), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95))
    for step in range(steps):
        starts = [draw.randrange(max(1, len(stream) - LENGTH)) for _ in range(ROWS)]
        ids = torch.stack([stream[start : start + LENGTH] for start in starts])
        out = model(ids, labels=ids, output_router_logits=True)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            print(f"step {step}: loss {out.loss:.3f}, balance loss {out.aux_loss:.3f}")
    model.eval()


if __name__ == "__main__":
    main()
