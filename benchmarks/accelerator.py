"""Ours beside transformers on one device, routers recorded: ``python benchmarks/accelerator.py [--dry-run]``.

One process, at most three minutes on one card: as many layers of Mixtral-8x7B's shape as its memory holds, in random
bfloat16 weights that both programs share, medians of interleaved rounds. ``--dry-run`` takes tiny sizes on a CPU.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from contestants import recorders_of
from waits import counted_waits

Call = Callable[[], Any]
MIXTRAL: dict[str, int] = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
}  # fmt: skip
SMALL = MIXTRAL | {
    "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 8192,
}  # fmt: skip
TRAINED = MIXTRAL | {"hidden_size": 2048, "intermediate_size": 7168, "num_hidden_layers": 4}
TINY = SMALL | {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 512}
NEW_TOKENS = 64


@dataclass(frozen=True)
class Plan:
    """What runs: sizes, shapes [rows, positions], and how long a row of the table may take."""

    device: torch.device
    dtype: torch.dtype
    sizes: dict[str, dict[str, int]]
    prefill: dict[str, Sequence[tuple[int, int]]]
    decode: Sequence[int]
    training: tuple[int, int]
    attention: int
    new: int
    seconds: float

    @classmethod
    def of(cls, dry: bool) -> "Plan":
        """The plan for the accelerator of this machine, or a tiny one for its CPU."""
        if dry:
            sizes = dict.fromkeys(("large", "small", "trained"), TINY)
            few = [(1, 16), (2, 32)]
            return cls(
                torch.device("cpu"), torch.bfloat16, sizes, {"large": few, "small": few}, (1, 2), (2, 32), 32, 4, 0
            )
        device = torch.accelerator.current_accelerator()
        if device is None:
            raise SystemExit("this benchmark needs an accelerator, got none; give --dry-run to try it on a CPU")
        large = MIXTRAL | {"num_hidden_layers": layers_that_fit(device)}
        prefill = {"large": [(1, 128), (1, 2048), (4, 2048)], "small": [(1, 128), (16, 256), (64, 512)]}
        return cls(
            device, torch.bfloat16, {"large": large, "small": SMALL, "trained": TRAINED}, prefill, (1, 8), (8, 1024),
            1024, NEW_TOKENS, 5.0,
        )  # fmt: skip


def layers_that_fit(device: torch.device) -> int:
    """As many of 32 layers as four fifths of the free memory hold in bfloat16."""
    free, _ = torch.cuda.mem_get_info(device)
    c, i, e = (MIXTRAL[name] for name in ("hidden_size", "intermediate_size", "num_local_experts"))
    layer = 2 * (3 * c * i * e + 2 * c * c + 2 * c * c // 4)
    return max(1, min(MIXTRAL["num_hidden_layers"], int((0.8 * free - 4 * MIXTRAL["vocab_size"] * c) // layer)))


def synchronise(device: torch.device) -> None:
    """Wait for all work on an accelerator."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def measure(plan: Plan, calls: Mapping[str, Call]) -> dict[str, float]:
    """Return the median seconds of each call, in rounds, one after the other."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = 0.0
    while (
        not end
        or len(next(iter(times.values()))) < 2
        or (time.perf_counter() < end and len(next(iter(times.values()))) < 30)
    ):
        for name, call in calls.items():
            synchronise(plan.device)
            start = time.perf_counter()
            call()
            synchronise(plan.device)
            times[name].append(time.perf_counter() - start)
        end = end or time.perf_counter() + plan.seconds  # the first round warms up
    return {name: median(taken[1:] or taken) for name, taken in times.items()}


def models(plan: Plan, name: str, numerics: str = "fast") -> tuple[Any, Any]:
    """Our model and that of transformers, over the same weights."""
    import transformers

    import mixtral_probe as mp

    sizes = plan.sizes[name]
    with torch.device(plan.device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(plan.dtype)
        ours = mp.MixtralForCausalLM(mp.MixtralConfig(**sizes), numerics).eval()
        torch.set_default_dtype(before)
    with torch.device("meta"):
        theirs = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes)).eval()
    named = {key.replace("block_sparse_moe", "mlp"): weight for key, weight in ours.named_parameters()}
    theirs.load_state_dict(named, assign=True)
    if not plan.seconds:
        ours.set_experts_implementation("grouped_mm")  # the form of a device
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(theirs.config).to(plan.device)
    return ours, theirs


def prefill(plan: Plan, name: str, ours: Any, theirs: Any) -> list[dict[str, Any]]:
    """Rows for the forward passes of one model."""
    rows = []
    for batch, length in plan.prefill[name]:
        ids = torch.randint(0, plan.sizes[name]["vocab_size"], (batch, length), device=plan.device)
        recorders = recorders_of(ours, ids)
        calls = forwards(ours, theirs, ids, recorders)
        with torch.inference_mode():
            taken = measure(plan, calls)
            waits = {key: waits_of(plan, calls[key]) for key in ("ours", "ours, recorded")}
        rows.append({"work": f"{name}: prefill {batch} × {length}", "unit": "ms", "waits": waits, "flops": None}
                    | {"seconds": taken, "flops": flops(plan.sizes[name], batch * length)})  # fmt: skip
    return rows


def forwards(ours: Any, theirs: Any, ids: torch.Tensor, recorders: Callable[[], list[Any]]) -> dict[str, Call]:
    """The forward passes that are compared."""

    def recorded() -> None:
        instruments = recorders()
        ours(ids, logits_to_keep=1, use_cache=False, instruments=instruments)
        for instrument in instruments:
            instrument.finish()

    return {
        "ours": lambda: ours(ids, logits_to_keep=1, use_cache=False),
        "ours, recorded": recorded,
        "transformers": lambda: theirs(ids, logits_to_keep=1, use_cache=False),
        "transformers, router logits": lambda: theirs(
            ids, logits_to_keep=1, use_cache=False, output_router_logits=True
        ),
    }


def waits_of(plan: Plan, call: Call) -> int:
    """Return how often the host waits in one call; checks of values, which only a CPU has, are left out."""
    with counted_waits(plan.device) as places:
        call()
    return sum("inputs.py" not in place for place in places)


def flops(sizes: Mapping[str, int], tokens: int) -> float:
    """Return the operations of the matrix products of one forward pass, without attention scores and the head."""
    c, i, k = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_experts_per_tok"]
    kv = c * sizes["num_key_value_heads"] // sizes["num_attention_heads"]
    return 2.0 * tokens * sizes["num_hidden_layers"] * (2 * c * c + 2 * c * kv + 3 * c * i * k)


def decode(plan: Plan, ours: Any, theirs: Any) -> list[dict[str, Any]]:
    """Rows for generation."""
    from mixtral_probe.instruments import GenerationRecorder

    rows = []
    for batch in plan.decode:
        ids = torch.randint(0, plan.sizes["large"]["vocab_size"], (batch, 16), device=plan.device)
        how = {"max_new_tokens": plan.new, "do_sample": False, "eos_token_id": None}

        def recorded(ids: torch.Tensor = ids, how: dict[str, Any] = how) -> None:
            recorder = GenerationRecorder(None, [0] * len(ids))
            ours.generate(ids, instruments=[recorder], **how)
            recorder.finish()

        theirs.generation_config.eos_token_id = theirs.generation_config.pad_token_id = None
        calls: dict[str, Call] = {
            "ours": lambda ids=ids, how=how: ours.generate(ids, **how),
            "ours, recorded": recorded,
            "transformers": lambda ids=ids: theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=plan.new, do_sample=False, pad_token_id=0
            ),
        }
        taken = measure(plan, calls)
        rates = {name: batch * plan.new / seconds for name, seconds in taken.items()}
        rows.append({"work": f"large: decode {batch} rows", "unit": "tokens/s", "seconds": taken, "rate": rates})
    return rows


def captured(plan: Plan, ours: Any) -> list[dict[str, Any]]:
    """A row for a whole capture of text, against its forward passes alone."""
    import mixtral_probe as mp
    from mixtral_probe.resources import data_path
    from mixtral_probe.run.batch import NO_EXTRA_OUTPUTS
    from mixtral_probe.run.options import RunOptions
    from mixtral_probe.run.passes import model_batches

    tokenizer = mp.Tokenizer.from_folder(data_path("mixtral-mini"))
    ours.resize_token_embeddings(tokenizer.vocab_size)
    probe = mp.Probe(ours, tokenizer)
    corpus = mp.Corpus.read(data_path("corpus")) if plan.seconds else "a few words"
    planned = probe.plan(corpus)

    @torch.inference_mode()
    def forwards() -> None:
        for batch in model_batches(planned, plan.device, RunOptions()):
            ours.model(batch.ids, **NO_EXTRA_OUTPUTS)

    taken = measure(plan, {"forward passes": forwards, "ours": lambda: probe.trace(planned)})
    return [{"work": "small: Probe.trace against its forward passes", "unit": "ms", "seconds": taken}]


def training(plan: Plan) -> list[dict[str, Any]]:
    """A row for a step with the auxiliary loss: forward, backward, and gradients set to none."""
    ours, theirs = (model.train() for model in models(plan, "trained"))
    ids = torch.randint(0, plan.sizes["trained"]["vocab_size"], plan.training, device=plan.device)

    def step(model: Any) -> None:
        model(ids, labels=ids, output_router_logits=True, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)

    taken = measure(plan, {"ours": lambda: step(ours), "transformers": lambda: step(theirs)})
    rows, length = plan.training
    return [{"work": f"training step {rows} × {length}", "unit": "ms", "seconds": taken}]


def attention(plan: Plan, ours: Any, theirs: Any) -> list[dict[str, Any]]:
    """A row for the attention maps of all layers."""
    ids = torch.randint(0, plan.sizes["large"]["vocab_size"], (1, plan.attention), device=plan.device)
    theirs.set_attn_implementation("eager")
    with torch.inference_mode():
        calls = {
            name: lambda model=model: model(ids, output_attentions=True, use_cache=False, logits_to_keep=1)
            for name, model in (("ours", ours), ("transformers", theirs))
        }
        taken = measure(plan, calls)
    return [{"work": f"large: all attention maps, {plan.attention} positions", "unit": "ms", "seconds": taken}]


def limits(plan: Plan) -> dict[str, float]:
    """Return measured limits: operations a second of a large product, bytes a second of a copy."""
    size, rows = (4096, 8192) if plan.seconds else (256, 256)
    a, b = (torch.randn(rows, size, device=plan.device, dtype=plan.dtype) for _ in range(2))
    big = torch.empty((1 << 30) if plan.seconds else (1 << 20), dtype=torch.uint8, device=plan.device)
    other = torch.empty_like(big)
    taken = measure(plan, {"product": lambda: a @ b.T, "copy": lambda: other.copy_(big)})
    return {"flops": 2 * rows * rows * size / taken["product"], "bytes": 2 * big.numel() / taken["copy"]}


def table(plan: Plan) -> dict[str, Any]:
    """Measure everything."""
    found = limits(plan)
    rows: list[dict[str, Any]] = []
    ours, theirs = models(plan, "large")
    rows += prefill(plan, "large", ours, theirs) + decode(plan, ours, theirs) + attention(plan, ours, theirs)
    how = ours.experts_used()
    del ours, theirs
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()
    small = models(plan, "small")
    rows += prefill(plan, "small", *small) + captured(plan, small[0]) + training(plan)
    for row in rows:
        if row.get("flops"):
            row["share_of_product_limit"] = row["flops"] / row["seconds"]["ours"] / found["flops"]
    where = torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else plan.device.type
    return {
        "device": where,
        "layers": plan.sizes["large"]["num_hidden_layers"],
        "experts": how,
        "limits": found,
        "rows": rows,
    }


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    limit = found["limits"]
    print(f"{found['device']}, {found['layers']} layers, experts: {found['experts']}; "
          f"{limit['flops'] / 1e12:.3g} TFLOP/s, {limit['bytes'] / 1e12:.3g} TB/s")  # fmt: skip
    for row in found["rows"]:
        values = row.get("rate") or {name: 1000 * seconds for name, seconds in row["seconds"].items()}
        parts = [f"{name} {value:.3g}" for name, value in values.items()]
        peer = "transformers" if "transformers" in row["seconds"] else "forward passes"
        parts.append(f"{peer} / ours {row['seconds'][peer] / row['seconds']['ours']:.2f}")
        if "ours, recorded" in row["seconds"]:
            parts.append(f"recorded / ours {row['seconds']['ours, recorded'] / row['seconds']['ours']:.3f}")
        parts += [f"waits {row['waits']['ours']}, recorded {row['waits']['ours, recorded']}"] if "waits" in row else []
        if share := row.get("share_of_product_limit"):
            parts.append(f"{share:.2f} of the product rate")
        print(f"{row['work']} ({row['unit']}): " + "; ".join(parts))


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    found = table(Plan.of(options.dry_run))
    show(found)
    if options.json:
        json.dump(found, options.json, indent=1)


if __name__ == "__main__":
    main()
