"""Train the embedded model: ``python data/mixtral-mini/train.py --tokens DIR --out DIR [--start DIR] [--steps N]``.

Resumable: run the same command again, with another ``--steps`` if you like; the schedule is warm-up, constant, linear
decay over the last 40 %, so only the decay depends on the length. ``--start`` begins from the weights of a model folder
instead of random ones. Needs the token files of ``prepare.py``.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from batches import Domains
from muon import Muon

import mixtral_probe as mp
from mixtral_probe.model import load_balancing_loss, router_z_loss
from mixtral_probe.run.allocator import keep_freed_memory

CONFIG = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.05,
}
ROWS, LENGTH = 13, 256
LONG = ((4, 1024), (2, 2048))  # rows and length of the last steps, in turn, so that 2,048 positions work
LONG_SHARE, DECAY_SHARE, WARMUP = 0.12, 0.4, 100
MUON_RATE, ADAM_RATE = 0.02, 3e-3
BALANCE, Z_LOSS = 0.05, 1e-3
EVALUATED = 6  # held-out rows of each domain looked at during training
SNAPSHOTS = (0, 50, 200, 500, 1000, 1500)  # and the last step: where data/training_traces looks at the router


def main() -> None:
    """Train, or go on training."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    domains, heldout = Domains(options.tokens), Domains(options.tokens / "heldout")
    model = mp.MixtralForCausalLM(mp.MixtralConfig(**CONFIG))
    if options.start:
        model.load_state_dict(mp.MixtralForCausalLM.from_pretrained(options.start, dtype="float32").state_dict())
    optimizers = _optimizers(model)
    done = _resume(options.out / "checkpoint.pt", model, optimizers)
    started = time.monotonic()
    for step in range(done, options.steps):
        if step in SNAPSHOTS:
            _snapshot(options.out / f"step-{step:05d}.pt", model)
        record = _step(model, optimizers, domains, step, options)
        if step % 10 == 0:
            _log(options.out / "train.jsonl", record | {"step": step, "seconds": time.monotonic() - started})
        if (step + 1) % options.evaluate_every == 0:
            _log(options.out / "heldout.jsonl", {"step": step + 1, "domains": evaluate(model, heldout)})
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            _save(options.out / "checkpoint.pt", model, optimizers, step + 1)
    _snapshot(options.out / f"step-{options.steps:05d}.pt", model)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="folder of <domain>.npy")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, snapshots and the log")
    parser.add_argument("--start", type=Path, help="model folder whose weights to begin from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--evaluate-every", type=int, default=250)
    return parser.parse_args()


def _optimizers(model: mp.MixtralForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embedding, head, routers and norms."""
    named = list(model.named_parameters())
    inner = [p for n, p in named if "proj" in n]
    outer = [p for n, p in named if "proj" not in n and p.dim() == 2]
    norms = [p for _, p in named if p.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": outer, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}],
        lr=ADAM_RATE, betas=(0.9, 0.95), fused=True,
    )  # fmt: skip
    optimizers: list[torch.optim.Optimizer] = [Muon(inner, MUON_RATE, weight_decay=0.01), adam]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["top_rate"] = group["lr"]
    return optimizers


def _schedule(step: int, steps: int) -> float:
    left = (steps - step) / (DECAY_SHARE * steps)
    return min(1.0, (step + 1) / WARMUP, left)


def _step(
    model: mp.MixtralForCausalLM, optimizers: list[torch.optim.Optimizer], domains: Domains, step: int,
    options: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    long = step >= (1 - LONG_SHARE) * options.steps
    rows, length = LONG[step % len(LONG)] if long else (ROWS, LENGTH)
    ids = domains.rows(rows, length, step, options.seed)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(ids, output_router_logits=True)
    top_k = model.config.num_experts_per_tok
    cross_entropy = torch.nn.functional.cross_entropy(out.logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())
    balance = top_k * load_balancing_loss(out.router_logits, top_k)
    z_loss = router_z_loss(out.router_logits)
    (cross_entropy + BALANCE * balance + Z_LOSS * z_loss).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["top_rate"] * _schedule(step, options.steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    values = {"loss": cross_entropy, "balance": balance, "z": z_loss, "gradient": norm}
    return {name: round(value.item(), 4) for name, value in values.items()}


@torch.inference_mode()
def evaluate(model: mp.MixtralForCausalLM, heldout: Domains) -> dict[str, dict[str, float]]:
    """Held-out bits per token and mean normalised load entropy over layers, for each domain."""
    results = {}
    for name, stream in zip(heldout.names, heldout.streams, strict=True):
        ids = torch.from_numpy(stream[: EVALUATED * LENGTH].astype("int64")).view(EVALUATED, LENGTH)
        with torch.autocast("cpu", torch.bfloat16):
            out = model(ids, output_router_logits=True)
        loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())
        entropies = [_load_entropy(logits, model.config) for logits in out.router_logits]
        results[name] = {"bits": loss.item() / math.log(2), "load_entropy": sum(entropies) / len(entropies)}
    return results


def _load_entropy(logits: torch.Tensor, config: mp.MixtralConfig) -> float:
    chosen = logits.topk(config.num_experts_per_tok, dim=-1).indices.flatten()
    share = torch.bincount(chosen, minlength=config.num_local_experts) / len(chosen)
    return -torch.special.xlogy(share, share).sum().item() / math.log(len(share))


def _resume(path: Path, model: mp.MixtralForCausalLM, optimizers: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])


def _save(path: Path, model: mp.MixtralForCausalLM, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _snapshot(path: Path, model: mp.MixtralForCausalLM) -> None:
    torch.save({name: weight.bfloat16() for name, weight in model.state_dict().items()}, path)


def _log(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
