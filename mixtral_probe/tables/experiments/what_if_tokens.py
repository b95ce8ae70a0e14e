"""What edits do to each token: `what_if_tokens`."""

import numpy as np
import pandas as pd

from mixtral_probe.stats.run_sums import rerouted
from mixtral_probe.tables.experiments.what_if_runs import placebo_tokens
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.trace import Result, WhatIf


@of_result
def what_if_tokens(result: Result) -> pd.DataFrame:
    """Return what edits do to each token.

    Columns: document, chunk, position, token, nll, loss_change, loss_change_placebo, placebo_low, placebo_high,
    divergence_bits, layers_rerouted.
    """
    result = WhatIf.require(result, "the table what_if_tokens")
    nll, moved = np.asarray(result.nll, np.float64), rerouted(result.expert_ids[0], result.expert_ids[1])
    mean, low, high = placebo_tokens(result)
    frame = pd.DataFrame(
        {
            "document": result.token_document,
            "chunk": result.chunk,
            "position": result.position,
            "token": result.axis("token"),
            "nll": nll[0],
            "loss_change": nll[1] - nll[0],
            "loss_change_placebo": mean,
            "placebo_low": low,
            "placebo_high": high,
            "divergence_bits": np.asarray(result.bits[1], np.float64),
            "layers_rerouted": moved.sum(0),
        }
    )
    return with_dtypes(frame.astype({"token": "str"}), SPEC)


SPEC = TableSpec(
    function=what_if_tokens,
    source="result",
    description="What edits do to each token.",
    keys=("document", "chunk", "position", "token"),
    metrics={},
    figures=(),
    narrows=False,
    values=(
        "nll",
        "loss_change",
        "loss_change_placebo",
        "placebo_low",
        "placebo_high",
        "divergence_bits",
        "layers_rerouted",
    ),
    meanings={
        "document": Column("document, from 0; empty = all documents", "Int64"),
        "nll": Column("loss of the token without the edits, nats", "float64"),
        "loss_change": Column("loss of the token with the edits - without, nats", "float64"),
        "loss_change_placebo": Column(
            "loss of the token with the placebo - without, nats, mean of its draws; empty where there is none",
            "float64",
        ),
        "placebo_low": Column("least of the draws; empty with fewer than 2", "float64"),
        "placebo_high": Column("greatest of them", "float64"),
        "divergence_bits": Column("KL(without || with) of what is expected after the token", "float64"),
        "layers_rerouted": Column("layers in which the token has another set of experts", "Int64"),
    },
)
