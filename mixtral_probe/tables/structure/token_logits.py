"""Every router logit of one token: `token_logits`."""

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.trace import Trace


@of_trace
def token_logits(trace: Trace, *, document: int = 0, chunk: int = 0, position: int) -> pd.DataFrame:
    """Return the router logit of every expert in every layer for one token: a row per layer and expert.

    Columns: document, chunk, position, layer, expert, logit. Empty without router logits.

    Args:
        trace: the trace.
        document, chunk, position: the token.

    Raises:
        InputError: the trace has no such token.
    """
    here = {"document": document, "chunk": chunk, "position": position}
    matches = np.logical_and.reduce([(trace.tokens[name] == at).to_numpy(dtype=bool) for name, at in here.items()])
    if not matches.any():
        names = ", ".join(f"{name} {at}" for name, at in here.items())
        raise InputError(f"document, chunk and position must name a token, got {names}: there is none")
    row = int(matches.argmax())
    logits = np.zeros((0, 0)) if trace.router_logits is None else np.asarray(trace.router_logits[:, row], np.float64)
    layer, expert = (axis.ravel() for axis in np.indices(logits.shape))
    table = pd.DataFrame({"layer": np.array(trace.layers)[layer], "expert": expert, "logit": logits.ravel()}).assign(
        **here
    )
    return with_dtypes(table, SPEC)


SPEC = TableSpec(
    function=token_logits,
    source="part",
    description="The router logit of every expert in every layer for one token.",
    keys=("document", "chunk", "position", "layer", "expert"),
    metrics={},
    figures=(),
    narrows=False,
    values=("logit",),
    meanings={"logit": Column("router logit of the expert, before top-K", "float64")},
)
