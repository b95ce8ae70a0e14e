"""Seconds of a logit lens beside those of the same numbers made by NumPy on the host, with the model's own vocabulary.

python benchmarks/logit_lens.py [--vocabulary 32000] [--device cpu] [--tokens 512] [--rounds 5]
"""

import argparse
import time
from statistics import median
from typing import Any

import numpy as np
import torch

import mixtral_probe as mp
from mixtral_probe import metrics
from mixtral_probe.experiments import logit_lens
from mixtral_probe.instruments import Window
from mixtral_probe.run.allocator import keep_freed_memory
from mixtral_probe.run.batch import Batch


def on_the_host(model: Any, residuals: list[torch.Tensor], following: torch.Tensor, top: int) -> dict[str, Any]:
    """The arrays of ``logit_lens.of_rows`` by the functions of ``metrics``."""
    logits = [logit_lens._read(model, hidden).cpu().numpy() for hidden in residuals]
    layers = [_of_layer(layer, logits[-1], following[: len(layer)].cpu().numpy(), top) for layer in logits]
    return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}


def _of_layer(logits: np.ndarray, final: np.ndarray, following: np.ndarray, top: int) -> dict[str, np.ndarray]:
    log_p = metrics.log_probabilities(logits)
    order = torch.from_numpy(logits).topk(top).indices.numpy()
    surprise = np.full(len(logits), np.nan, np.float32)
    surprise[: len(following)] = -log_p[np.arange(len(following)), following] / np.log(2)
    return {
        "entropy_bits": metrics.prediction_entropy_bits(logits).astype(np.float32),
        "divergence_bits": metrics.prediction_divergence_bits(final, logits).astype(np.float32),
        "next_token_bits": surprise,
        "agrees": logits.argmax(-1) == final.argmax(-1),
        "predicted_id": order.astype(np.int32),
        "probability": np.exp(np.take_along_axis(log_p, order, -1)).astype(np.float32),
    }


def products_alone(model: Any, residuals: list[torch.Tensor], following: torch.Tensor, top: int) -> dict[str, Any]:
    """The logits, which both ways need, and nothing read from them."""
    return {"entropy_bits": np.stack([logit_lens._read(model, hidden)[:, 0].cpu().numpy() for hidden in residuals])}


def main() -> None:
    """Print the medians and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, help="a head of random weights of this size, by default the model's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    keep_freed_memory()  # as every run does
    model = mp.MixtralForCausalLM.from_pretrained("mini", device=chosen.device)
    if chosen.vocabulary:
        head = torch.nn.Linear(model.config.hidden_size, chosen.vocabulary, bias=False)
        model.lm_head = head.requires_grad_(False).to(chosen.device)
    ids = torch.randint(0, 8192, (chosen.tokens,), generator=torch.Generator().manual_seed(0)).numpy()
    batch = Batch.of(ids, [Window(0, 0, 0, chosen.tokens)], torch.device(chosen.device))
    ways = {"device": logit_lens.of_rows, "host": on_the_host, "products": products_alone}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            logit_lens.of_rows = way
            start = time.perf_counter()
            with torch.inference_mode():
                found[name] = logit_lens._of_window(model, batch, 5)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    most = max(
        np.nanmax(np.abs(found["device"][name] - found["host"][name]))
        for name in ("entropy_bits", "divergence_bits", "next_token_bits", "probability")
    )
    host, device = (medians[name] - medians["products"] for name in ("host", "device"))
    print(
        f"{chosen.tokens} tokens, vocabulary {model.lm_head.out_features}: on the host {medians['host']:.3f} s, on the "
        f"device {medians['device']:.3f} s, {medians['host'] / medians['device']:.1f}×; without the matrix products "
        f"{host:.3f} s and {device:.3f} s, {host / device:.1f}×; differences up to {most:.1e}"
    )


if __name__ == "__main__":
    main()
