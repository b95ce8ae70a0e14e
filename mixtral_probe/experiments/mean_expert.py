"""The mean that takes the place of an expert's output."""

from collections.abc import Sequence

from mixtral_probe.corpus import Document
from mixtral_probe.errors import InputError
from mixtral_probe.experiments.restart import output_sums
from mixtral_probe.instruments.edits import MeanExpert, ZeroExpert
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.plan import batches, plan
from mixtral_probe.tokenizer import Tokenizer


def mean_expert(
    model: MixtralForCausalLM, tokenizer: Tokenizer, documents: Sequence[Document], *, layer: int, expert: int,
    window: int | None, positions_in_a_batch: int,
) -> MeanExpert:  # fmt: skip
    """The edit whose constant is the mean of an expert's outputs over the tokens of documents routed to it.

    Raises:
        InputError: there is no such expert, or none of the tokens is routed to it.
    """
    ZeroExpert(layer=layer, expert=expert).check(model.config)
    planned = plan(documents, tokenizer, model.config.max_position_embeddings if window is None else window)
    device = model.lm_head.weight.device
    made = [Batch.of(planned.token_ids, some, device) for some in batches(planned.windows, positions_in_a_batch)]
    *sums, number = output_sums(model, made)[layer, expert]
    if not number:
        raise InputError(
            f"the mean of an expert needs tokens, but none is routed to expert {expert} of layer {layer}: give more"
        )
    return MeanExpert(layer=layer, expert=expert, mean=tuple(float(total / number) for total in sums))
