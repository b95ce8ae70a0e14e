"""The most probable next tokens, without and with edits: `what_if_next_tokens`."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.tables.experiments.placebo_band import BAND, band, mean_of
from mixtral_probe.tables.experiments.what_if_runs import placebo_probabilities
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.trace import Result, WhatIf


@of_result
def what_if_next_tokens(result: Result) -> pd.DataFrame:
    """Return the most probable tokens after each document, without and with the edits, and with the placebo.

    Columns: document, candidate, token_id, token, probability, probability_edited, probability_placebo, placebo_low,
    placebo_high, placebo_draws, placebo_rank, rank, rank_edited.
    """
    result = WhatIf.require(result, "the table what_if_next_tokens")
    ids, probability, rank = result.candidate_id, np.asarray(result.probability, np.float64), result.rank
    documents, candidates = np.nonzero(ids >= 0)
    here = (documents, candidates)
    draws = placebo_probabilities(result)[:, documents, candidates]
    frame = pd.DataFrame(
        {
            "document": documents,
            "candidate": candidates,
            "token_id": ids[here],
            "token": [result.candidates[d][c] for d, c in zip(*here, strict=True)],
            "probability": probability[0][here],
            "probability_edited": probability[1][here],
            "probability_placebo": mean_of(draws),
            **band(draws),
            "placebo_rank": metrics.draw_rank(probability[1][here], draws) if len(draws) > 1 else None,
            "rank": rank[0][here],
            "rank_edited": rank[1][here],
        }
    )
    return with_dtypes(frame.astype({"token": "str"}), SPEC)


SPEC = TableSpec(
    function=what_if_next_tokens,
    source="result",
    description="The most probable tokens after each document, without and with edits, and with draws of the placebo.",
    keys=("document", "candidate"),
    metrics={},
    figures=(),
    narrows=False,
    values=(
        "token_id",
        "token",
        "probability",
        "probability_edited",
        "probability_placebo",
        *BAND,
        "placebo_rank",
        "rank",
        "rank_edited",
    ),
    meanings={
        "document": Column("document, from 0; empty = all documents", "Int64"),
        "candidate": Column(
            "number among the best 20 next tokens without or with the edits, best without first", "Int64"
        ),
        "token_id": Column("id of the token", "Int64"),
        "probability": Column("of the token after the document's last, without the edits", "float64"),
        "probability_edited": Column("with the edits", "float64"),
        "probability_placebo": Column("with the placebo, mean of its draws; empty where there is none", "float64"),
        **BAND,
        "placebo_rank": Column("place of probability_edited among itself and the draws, 1 = largest", "Int64"),
        "rank": Column("rank of the token among all without the edits, 0 = best", "Int64"),
        "rank_edited": Column("rank with the edits", "Int64"),
    },
)
