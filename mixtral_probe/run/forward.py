"""One forward pass of a batch for an experiment, with the check that its routing is finite."""

from collections.abc import Sequence
from typing import Any

from mixtral_probe.instruments.routing_check import RoutingCheck
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.run.batch import NO_EXTRA_OUTPUTS, Batch


def forward(
    model: MixtralForCausalLM,
    batch: Batch,
    instruments: Sequence[Instrument] = (),
    *,
    edited: bool = False,
    **outputs: Any,
) -> ModelOutput:
    """Run a batch through the layers and the final norm.

    Args:
        model: the model.
        batch: of windows.
        instruments: attached to the call, in this order.
        edited: whether edits are among them.
        outputs: arguments of the call that ask for more than the last hidden state.

    Raises:
        InputError: the routing of a token is not finite.
    """
    check = RoutingCheck(edited)
    out = model.model(batch.ids, instruments=(*instruments, check), **NO_EXTRA_OUTPUTS | outputs)
    check.require(batch.windows, batch.ids.shape[1], model.lm_head.weight.dtype)
    return out
