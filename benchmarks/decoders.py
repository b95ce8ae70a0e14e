"""The generations that are compared: each makes a function that writes ``NEW`` tokens after a prompt, greedily."""

from collections.abc import Callable
from typing import Any

import torch
from contestants import SHAPES as SIZES

Round = Callable[[], Any]

PROMPT, NEW = 32, 64
SHAPES = {"embedded, 1 row": ("embedded", 1), "embedded, 8 rows": ("embedded", 8), "middle, 1 row": ("middle", 1)}


def ids(shape: str) -> torch.Tensor:
    """The same prompts for everyone."""
    return torch.randint(0, 8192, (SHAPES[shape][1], PROMPT), generator=torch.Generator().manual_seed(0))


def ours(shape: str, record: bool) -> Round:
    """Our ``generate`` with the default numerics, with or without every router recorded at every step."""
    import mixtral_probe as mp
    from mixtral_probe.instruments import GenerationRecorder
    from mixtral_probe.run.allocator import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    model = mp.MixtralForCausalLM(mp.MixtralConfig(**SIZES[SHAPES[shape][0]]["sizes"])).eval()
    prompt = ids(shape)

    def one() -> Any:
        recorder = GenerationRecorder(None, [0] * len(prompt))
        made = model.generate(prompt, max_new_tokens=NEW, eos_token_id=None, instruments=[recorder] if record else [])
        return made, recorder.finish()

    return one


def theirs(shape: str, allocator: bool) -> Round:
    """transformers' ``generate`` with its default attention and experts, nothing recorded."""
    import transformers

    if allocator:
        from mixtral_probe.run.allocator import keep_freed_memory

        keep_freed_memory()
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**SIZES[SHAPES[shape][0]]["sizes"], eos_token_id=None, pad_token_id=0)
    model = transformers.MixtralForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    prompt = ids(shape)
    return lambda: model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, do_sample=False)


CONTESTANTS: dict[str, Callable[[str], Round]] = {
    "ours": lambda shape: ours(shape, record=False),
    "ours, routers recorded": lambda shape: ours(shape, record=True),
    "transformers, same allocator": lambda shape: theirs(shape, allocator=True),
    "transformers, defaults": lambda shape: theirs(shape, allocator=False),
}
