"""The face: a model, its tokenizer and the engine in one object."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Self

import torch

from mixtral_probe.checkpoint import MixtralForCausalLM
from mixtral_probe.checkpoint.checkpoint import model_folder
from mixtral_probe.corpus import Document, Source, read_corpus
from mixtral_probe.engine import (
    POSITIONS_IN_A_BATCH,
    AttentionChoice,
    Estimate,
    OnProgress,
    ShouldStop,
    attention_plan,
    capture,
    estimate,
    plan,
)
from mixtral_probe.model import Instrument
from mixtral_probe.model.attention import Numerics
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Trace


class Probe:
    """Runs text through a Mixtral model and returns what its routers did.

    >>> probe = Probe.from_pretrained("mini")
    >>> trace = probe.trace("def add(a, b): return a + b", attention=[0, 3])
    """

    def __init__(self, model: MixtralForCausalLM, tokenizer: Tokenizer, name: str = "") -> None:
        tokenizer.check_fits(model.config)
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path = "mini",
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        numerics: Numerics = "fast",
    ) -> Self:
        """Open a model folder; "mini" is the embedded model. Arguments as in ``MixtralForCausalLM.from_pretrained``."""
        tokenizer = Tokenizer.from_folder(model_folder(folder))
        name = "mixtral-mini" if str(folder) == "mini" else Path(folder).name
        return cls(MixtralForCausalLM.from_pretrained(folder, dtype, device, numerics), tokenizer, name)

    def trace(
        self,
        source: Source,
        *,
        attention: AttentionChoice = None,
        attention_maps: bool = True,
        router_logits: bool = True,
        path: str | PathLike[str] | None = None,
        window: int | None = None,
        instruments: Sequence[Instrument] = (),
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> Trace:
        """Run text and record router logits, chosen experts, weights and, if asked for, attention.

        Args:
            source: a text, a list of texts, documents with labels, a path, or "bundled"; see ``read_corpus``.
            attention: layers such as [0, 3], "8-15" or "all", heads as "3:0-7" or {3: range(8)}.
            attention_maps: keep the maps themselves; without them only per-head summaries.
            router_logits: record them; without, only the chosen experts and their weights.
            path: a folder to write while running. An interrupted run of the same text continues; statistics are
                written beside it.
            window: tokens after which a document is cut; by default the model's maximum.
            instruments: edits, visited before the recorder.
            on_progress, should_stop: called after and before every batch.
            positions_in_a_batch: padded positions run at once.

        Raises:
            InputError: something asked for does not exist or does not fit; the sentence says what to do.
        """
        documents = read_corpus(source)
        return capture(
            self.model,
            self.tokenizer,
            documents,
            attention=attention_plan(attention, self.model.config, attention_maps),
            router_logits=router_logits,
            path=path,
            window=window,
            model_name=self.name,
            corpus_name=_corpus_name(source),
            instruments=instruments,
            on_progress=on_progress,
            should_stop=should_stop,
            positions_in_a_batch=positions_in_a_batch,
        )

    def estimate(
        self,
        source: Source,
        *,
        attention: AttentionChoice = None,
        attention_maps: bool = True,
        window: int | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> Estimate:
        """What ``trace`` with these arguments will take: tokens, memory, disk, seconds."""
        config = self.model.config
        planned = plan(
            read_corpus(source), self.tokenizer, config.max_position_embeddings if window is None else window
        )
        return estimate(self.model, planned, attention_plan(attention, config, attention_maps), positions_in_a_batch)


def _corpus_name(source: Source | Iterable[Document]) -> str:
    if isinstance(source, Path):
        return source.name
    return "bundled" if source == "bundled" else "text"
