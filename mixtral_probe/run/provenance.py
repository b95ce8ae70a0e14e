"""The provenance of traces and results: model, tokenizer, corpus, software."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from mixtral_probe.corpus import Corpus
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.run.plan import Plan
from mixtral_probe.run.subject import Subject
from mixtral_probe.stats.groups import group_names
from mixtral_probe.trace import TraceMeta

SAMPLED = 4096
EXPERTS = "experts_implementation"
"""How experts were computed, which changes numbers by rounding only and so is no part of what identifies a run."""


def run_meta(
    subject: Subject, corpus: Corpus, instruments: Sequence[Instrument] = (), recorders: Sequence[str] = ()
) -> TraceMeta:
    """The meta of a trace: model, tokenizer, corpus, software, and the names of the instruments."""
    model, tokenizer, config = subject.model, subject.tokenizer, subject.config
    size = {"parameters": config.num_parameters(), "active_parameters": config.num_active_parameters()}
    parts = {"parameters_by_part": config.parameters_by_part()}
    settings = config.model_dump(include={"hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"})
    return TraceMeta(
        num_layers=config.num_hidden_layers,
        num_experts=config.num_local_experts,
        num_experts_per_tok=config.num_experts_per_tok,
        num_heads=config.num_attention_heads,
        model={"name": subject.name, "fingerprint": model_fingerprint(model), "numerics": model.numerics}
        | {EXPERTS: model.experts_used(instruments)}
        | size
        | parts
        | settings,
        tokenizer={"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        corpus={"name": corpus.name, "fingerprint": corpus.fingerprint, "documents": len(corpus.documents)},
        dtype=str(model.lm_head.weight.dtype).removeprefix("torch."),
        device=str(subject.device),
        software=software(),
        instruments=[{"name": name} for name in [*(type(i).__name__ for i in instruments), *recorders]],
    )


def experiment_meta(subject: Subject, planned: Plan | None) -> dict[str, Any]:
    """The meta of a result: as that of a trace, with the labels of the documents; without a plan, of weights alone."""
    corpus = Corpus("text", ()) if planned is None else planned.corpus
    meta = run_meta(subject, corpus).model_dump(
        mode="json", include={"model", "tokenizer", "corpus", "dtype", "device", "software", "created"}
    )
    meta[EXPERTS] = meta["model"].pop(EXPERTS)
    meta["experts_per_token"] = subject.config.num_experts_per_tok
    if planned is not None:
        frame = planned.documents.drop(columns=["document", "id"])
        meta["documents"] = {str(name): group_names(frame[name]) for name in frame}
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
    """Versions of the programs that compute a trace."""
    try:
        package = version("mixtral-probe")
    except PackageNotFoundError:  # run from a checkout that was never installed
        package = "unknown"
    return {"mixtral_probe": package, "torch": torch.__version__}
