"""What a trace says about where it comes from."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from mixtral_probe.model import MixtralForCausalLM

SAMPLED = 4096


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
