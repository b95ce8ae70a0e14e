"""The forward passes that are compared: each makes a function that runs one round."""

from collections.abc import Callable
from typing import Any

import torch

Round = Callable[[], Any]

SHAPES: dict[str, dict[str, Any]] = {
    "embedded": {
        "sizes": {
            "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 4, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 8192,
        },
        "batch": (4, 256),
    },
    "middle": {
        "sizes": {
            "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 4, "num_attention_heads": 16,
            "num_key_value_heads": 4, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 8192,
        },
        "batch": (2, 512),
    },
}  # fmt: skip


def ids(shape: str) -> torch.Tensor:
    """The same token ids for everyone."""
    return torch.randint(0, 8192, SHAPES[shape]["batch"], generator=torch.Generator().manual_seed(0))


def ours(shape: str, capture: bool) -> Round:
    """Our forward pass with the default numerics, with or without the recorder."""
    import mixtral_probe as mp
    from mixtral_probe.run.allocator import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    model = mp.MixtralForCausalLM(mp.MixtralConfig(**SHAPES[shape]["sizes"])).eval()
    tokens = ids(shape)
    instruments = recorders_of(model, tokens) if capture else list

    @torch.inference_mode()
    def one() -> Any:
        return model(tokens, logits_to_keep=1, instruments=instruments())

    return one


def recorders_of(model: Any, tokens: torch.Tensor) -> Callable[[], list[Any]]:
    """Return a function that makes a recorder of every router for the rows of a batch."""
    import pandas as pd

    from mixtral_probe.instruments import Recorder, Window
    from mixtral_probe.trace import TraceBuilder, TraceMeta

    rows, length = tokens.shape
    config = model.config
    meta = TraceMeta(
        num_layers=config.num_hidden_layers,
        num_experts=config.num_local_experts,
        num_experts_per_tok=config.num_experts_per_tok,
    )
    documents = pd.DataFrame({"document": range(rows), "id": [str(i) for i in range(rows)]})
    frame = pd.DataFrame({"document": [i for i in range(rows) for _ in range(length)], "token_id": tokens.flatten()})
    builder = TraceBuilder(documents, frame, meta)
    windows = [Window(i, 0, i * length, length) for i in range(rows)]
    return lambda: [Recorder(builder, windows, length)]


def theirs(shape: str, allocator: bool) -> Round:
    """transformers' forward pass with its default attention and experts."""
    import transformers

    if allocator:
        from mixtral_probe.run.allocator import keep_freed_memory

        keep_freed_memory()
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**SHAPES[shape]["sizes"])).eval()
    tokens = ids(shape)

    @torch.inference_mode()
    def one() -> Any:
        return model(tokens, logits_to_keep=1, use_cache=False)

    return one


CONTESTANTS: dict[str, Callable[[str], Round]] = {
    "ours": lambda shape: ours(shape, capture=False),
    "ours, routers recorded": lambda shape: ours(shape, capture=True),
    "transformers, same allocator": lambda shape: theirs(shape, allocator=True),
    "transformers, defaults": lambda shape: theirs(shape, allocator=False),
}
