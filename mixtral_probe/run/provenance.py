"""What a trace says about where it comes from."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from mixtral_probe.corpus import Document
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.plan import Plan
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import TraceMeta

SAMPLED = 4096


def run_meta(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    names: tuple[str, str],
    instruments: Sequence[type],
) -> TraceMeta:
    """What a trace says about its run; ``names`` are those of the model and the corpus."""
    config, weight = model.config, model.lm_head.weight
    size = {"parameters": config.num_parameters(), "active_parameters": config.num_active_parameters()}
    parts = {"parameters_by_part": config.parameters_by_part()}
    settings = config.model_dump(include={"hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"})
    texts = [document.text for document in documents]
    return TraceMeta(
        num_layers=config.num_hidden_layers,
        num_experts=config.num_local_experts,
        num_experts_per_tok=config.num_experts_per_tok,
        num_heads=config.num_attention_heads,
        model={"name": names[0], "fingerprint": model_fingerprint(model), "numerics": model.numerics}
        | size
        | parts
        | settings,
        tokenizer={"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        corpus={"name": names[1], "fingerprint": texts_fingerprint(texts), "documents": len(documents)},
        dtype=str(weight.dtype).removeprefix("torch."),
        device=str(weight.device),
        software=software(),
        instruments=[{"name": kind.__name__} for kind in instruments],
    )


def experiment_meta(
    model: MixtralForCausalLM, tokenizer: Tokenizer, documents: Sequence[Document], names: tuple[str, str],
    planned: Plan | None,
) -> dict[str, Any]:  # fmt: skip
    """What a result says about its run: as the meta of a trace, and the labels of the documents."""
    meta = run_meta(model, tokenizer, documents, names, ()).model_dump(
        mode="json", include={"model", "tokenizer", "corpus", "dtype", "device", "software", "created"}
    )
    meta["experts_per_token"] = model.config.num_experts_per_tok
    if planned is not None:
        frame = planned.documents.drop(columns=["document", "id"])
        meta["documents"] = {str(name): frame[name].astype(str).tolist() for name in frame}
    return meta


def model_fingerprint(model: MixtralForCausalLM) -> str:
    """SHA-256 over the config and at most 4,096 evenly spaced values of every tensor, as float32."""
    digest = hashlib.sha256(json.dumps(model.config.model_dump(), sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.reshape(-1)
        sample = flat[:: max(1, flat.numel() // SAMPLED)].to("cpu", torch.float32).numpy()
        digest.update(f"{name}{tuple(weight.shape)}".encode() + np.ascontiguousarray(sample).tobytes())
    return digest.hexdigest()


def software() -> dict[str, Any]:
    """Versions of what computes a trace."""
    try:
        own = version("mixtral-probe")
    except PackageNotFoundError:  # run from a checkout that was never installed
        own = "unknown"
    return {"mixtral_probe": own, "torch": torch.__version__}


def texts_fingerprint(texts: list[str]) -> str:
    """SHA-256 over the documents' texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()
