"""Random Mixtral models for tests, made by transformers, shaped so that mix-ups of axes and names show."""

from pathlib import Path
from typing import Any

import torch

from mixtral_probe import MixtralConfig, MixtralForCausalLM

TOY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,  # not hidden_size / heads
    "num_local_experts": 12,  # two digits: 10 must come after 9
    "num_experts_per_tok": 3,
    "rope_theta": 10000.0,
    "initializer_range": 0.1,
}


def randomise(model: torch.nn.Module, seed: int, std: float = 0.1) -> None:
    """Normal weights; norm weights spread around 1, since ones would hide an error of order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.2 if "norm" in name else std, generator=generator)


def reference_model(seed: int = 0, std: float = 0.1, **changes: Any) -> Any:
    """A random Mixtral of transformers in its eager arithmetic, which is the reference for every number."""
    import transformers

    fields = TOY | changes
    theta = fields.pop("rope_theta")
    config = transformers.MixtralConfig(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta})
    model = transformers.MixtralForCausalLM._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    randomise(model, seed, std)
    return model.eval()


def toy_model(seed: int = 0, std: float = 0.1, numerics: Any = "fast", **changes: Any) -> MixtralForCausalLM:
    """Our own random model of the same shape."""
    model = MixtralForCausalLM(MixtralConfig(**TOY | changes), numerics)
    randomise(model, seed, std)
    return model.eval()


def pair(folder: Path, seed: int = 0, numerics: Any = "reference", **changes: Any) -> tuple[Any, MixtralForCausalLM]:
    """A random model of transformers, and what we read from the folder it saved."""
    theirs = reference_model(seed, **changes)
    theirs.save_pretrained(folder)
    return theirs, MixtralForCausalLM.from_pretrained(folder, numerics=numerics)
