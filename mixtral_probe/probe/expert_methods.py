"""The methods of a probe that ask what its experts do."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

from mixtral_probe.corpus import Source, corpus_name, read_corpus
from mixtral_probe.experiments.ablation import ABLATION_POSITIONS, ablation
from mixtral_probe.experiments.mean_expert import mean_expert
from mixtral_probe.experiments.saliency import saliency
from mixtral_probe.experiments.similarity import SAMPLED_TOKENS, expert_subsets, similarity
from mixtral_probe.instruments.edits import MeanExpert
from mixtral_probe.instruments.placebo import Semantics
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.capture import POSITIONS_IN_A_BATCH
from mixtral_probe.run.progress import OnProgress, ShouldStop
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Result


class ExpertMethods:
    """What can be asked about the experts of a model; a part of ``Probe``."""

    model: MixtralForCausalLM
    tokenizer: Tokenizer
    name: str

    def saliency(
        self,
        source: Source,
        *,
        promoted: int = 20,
        contexts: int = 8,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> Result:
        """How much each expert adds to its tokens, which are super experts, what they promote, and where.

        For ``tables.saliency``, ``tables.promoted_tokens`` and ``tables.expert_contexts``.

        Args:
            source: as in ``trace``.
            promoted: tokens listed per expert that its outputs raise most.
            contexts: places listed per expert where it adds most.
            window, on_progress, should_stop, positions_in_a_batch: as in ``trace``.

        Raises:
            InputError: something asked for does not fit; the sentence says what to do.
        """
        return saliency(
            self.model, self.tokenizer, read_corpus(source), promoted=promoted, contexts=contexts, window=window,
            on_progress=on_progress, should_stop=should_stop, positions_in_a_batch=positions_in_a_batch,
            **self._names(source),
        )  # fmt: skip

    def similarity(
        self,
        source: Source | None = None,
        *,
        tokens: int = SAMPLED_TOKENS,
        align: bool = True,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> Result:
        """How alike every two experts of a layer are, by weights, router rows and outputs.

        For ``tables.expert_similarity`` and ``tables.norm_gate_ranks``.

        Args:
            source: as in ``trace``; None compares weights alone.
            tokens: at most so many are given to every expert, evenly spaced over the documents.
            align: find the best assignment of neurons to neurons too; takes time with the cube of the expert size.
            on_progress, should_stop, positions_in_a_batch: as in ``trace``.

        Raises:
            InputError: something asked for does not fit; the sentence says what to do.
        """
        return similarity(
            self.model, self.tokenizer, [] if source is None else read_corpus(source), tokens=tokens, align=align,
            on_progress=on_progress, should_stop=should_stop, positions_in_a_batch=positions_in_a_batch,
            **self._names("text" if source is None else source),
        )  # fmt: skip

    def expert_subsets(
        self,
        source: Source,
        *,
        sizes: Sequence[int],
        tokens: int = SAMPLED_TOKENS,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
    ) -> Result:
        """Which experts of a layer make its output best by themselves: all subsets, for ``tables.expert_subsets``.

        Args:
            source: as in ``trace``.
            sizes: how many experts are kept, such as [4, 6]: each gives C(E, size) subsets, 10,000 at most in all.
            tokens: at most so many are looked at, evenly spaced over the documents.
            on_progress, should_stop, positions_in_a_batch: as in ``trace``.

        Raises:
            InputError: something asked for does not fit; the sentence says what to do.
        """
        return expert_subsets(
            self.model, self.tokenizer, read_corpus(source), sizes=sizes, tokens=tokens, on_progress=on_progress,
            should_stop=should_stop, positions_in_a_batch=positions_in_a_batch, **self._names(source),
        )  # fmt: skip

    def ablation(
        self,
        source: Source,
        *,
        semantics: Semantics = "mask",
        layers: Sequence[int] | None = None,
        experts: Sequence[int] | None = None,
        placebo: bool = True,
        seed: int = 0,
        path: str | PathLike[str] | None = None,
        window: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        positions_in_a_batch: int = ABLATION_POSITIONS,
    ) -> Result:
        """What is lost without each expert: taken away one at a time, the loss measured again; for ``tables.ablation``.

        Every run begins at the layer it changes, with what the layers below made stored.

        Args:
            source: as in ``trace``.
            semantics: "mask": it cannot be chosen, the next best takes over, weights sum to 1. "zero": its output is 0,
                weights are kept. "zero_renorm": its output is 0, the other weights of the token are made to sum to 1.
                "mean": its output is its mean over these documents.
            layers, experts: only these; None for all.
            placebo: beside each, do the same to as many assignments of tokens drawn at random.
            seed: of the placebo.
            path: a folder to write the result to. An interrupted run with the same arguments continues.
            window, on_progress, should_stop, positions_in_a_batch: as in ``trace``; every run over a token counts.

        Raises:
            InputError: something asked for does not exist or does not fit; the sentence says what to do.
        """
        return ablation(
            self.model, self.tokenizer, read_corpus(source), semantics=semantics, layers=layers, experts=experts,
            placebo=placebo, seed=seed, path=path, window=window, on_progress=on_progress, should_stop=should_stop,
            positions_in_a_batch=positions_in_a_batch, **self._names(source),
        )  # fmt: skip

    def mean_expert(
        self,
        source: Source,
        *,
        layer: int,
        expert: int,
        window: int | None = None,
        positions_in_a_batch: int = ABLATION_POSITIONS,
    ) -> MeanExpert:
        """The edit that makes an expert say to everyone its mean over the tokens of a text that are routed to it.

        Args:
            source: as in ``trace``.
            layer, expert: of the edit.
            window, positions_in_a_batch: as in ``trace``.

        Raises:
            InputError: there is no such expert, or none of the tokens is routed to it.
        """
        return mean_expert(
            self.model, self.tokenizer, read_corpus(source), layer=layer, expert=expert, window=window,
            positions_in_a_batch=positions_in_a_batch,
        )  # fmt: skip

    def _names(self, source: Source) -> dict[str, Any]:
        return {"model_name": self.name, "corpus_name": corpus_name(source)}
