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
SIZES: dict[str, Any] = {
    "num_hidden_layers": 3,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
}
"""Of a model whose experts are counted as Mixtral's are: 2 of 8 for a token."""


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
    rope = {"rope_type": "default", "rope_theta": fields.pop("rope_theta")} | fields.pop("rope_parameters", {})
    config = transformers.MixtralConfig(**fields, rope_parameters=rope)
    model = transformers.MixtralForCausalLM._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    randomise(model, seed, std)
    return model.eval()


def lowered(theirs: Any, dtype: torch.dtype) -> Any:
    """A model of transformers in low precision as its ``from_pretrained`` makes it, with float32 frequencies.

    Its ``.to`` would round them, which is a trap of its own.
    """
    frequencies = theirs.model.rotary_emb.inv_freq.clone()
    theirs.to(dtype).model.rotary_emb.inv_freq = frequencies
    return theirs


def in_own_memory(theirs: Any) -> None:
    """Copy weights that lie in a mapped file, since the last bits of a product depend on how memory is aligned."""
    for weight in theirs.parameters():
        weight.data = weight.data.clone()


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


def ours_like(theirs: Any, numerics: Any = "reference") -> MixtralForCausalLM:
    """Our model with the weights and the dtype of one of transformers, without going through files."""
    config = MixtralConfig.from_dict(theirs.config.to_dict())
    model = MixtralForCausalLM(config, numerics).to(theirs.dtype)
    model.load_state_dict(theirs.state_dict())
    return model.eval()


def mask_of(lengths: list[int], size: int, side: str) -> torch.Tensor:
    """[B, S] with 1 on each row's own number of tokens, padded on the left or on the right."""
    mask = torch.zeros(len(lengths), size, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, slice(size - length, None) if side == "left" else slice(0, length)] = 1
    return mask


def everything(model: Any, input_ids: torch.Tensor | None, mask: torch.Tensor | None = None, **more: Any) -> Any:
    """One forward call that returns all there is."""
    with torch.no_grad():
        return model(
            input_ids,
            attention_mask=mask,
            output_router_logits=True,
            output_attentions=True,
            output_hidden_states=True,
            **more,
        )


def unpadded(out: Any, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every output of a call on the rows that are no padding, tokens first: [tokens, …]."""
    kept = mask.bool()
    values = {"logits": out.logits[kept]}
    for layer, hidden in enumerate(out.hidden_states):
        values[f"hidden_states {layer}"] = hidden[kept]
    for layer, logits in enumerate(out.router_logits):
        values[f"router_logits {layer}"] = logits[kept.reshape(-1)]
    for layer, weights in enumerate(out.attentions):
        values[f"attentions {layer}"] = weights.transpose(1, 2)[kept]
    return values


def different(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float = 0.0) -> list[str]:
    """What is not equal to the bit, or not within the tolerance; empty where everything is."""
    assert ours.keys() == theirs.keys()
    return [
        f"{name}: {(ours[name].double() - theirs[name].double()).abs().max()}"
        for name in ours
        if not (
            torch.equal(ours[name], theirs[name])
            if tolerance == 0
            else torch.allclose(ours[name], theirs[name], rtol=0, atol=tolerance)
        )
    ]


def rerouted(ours: torch.Tensor, theirs: torch.Tensor, top_k: int, margin: float = 1e-4) -> int:
    """Rows [T, E] with another choice of experts although the K-th and the next logit lie apart."""
    best = theirs.sort(dim=-1, descending=True)
    clear = torch.ones(len(theirs), dtype=torch.bool)
    if top_k < theirs.shape[-1]:
        clear = best.values[:, top_k - 1] - best.values[:, top_k] > margin
    same = ours.topk(top_k).indices.sort().values == best.indices[:, :top_k].sort().values
    return int((clear & ~same.all(-1)).sum())
