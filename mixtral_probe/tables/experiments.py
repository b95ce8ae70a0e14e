"""The list of tables that are made of an experiment's result, described as those of `TABLES` are."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from mixtral_probe.tables.ablation import ABLATION, ablation
from mixtral_probe.tables.ablation import KEYS as ABLATION_KEYS
from mixtral_probe.tables.logit_lens import COLUMNS as LENS_COLUMNS
from mixtral_probe.tables.logit_lens import KEYS as LENS_KEYS
from mixtral_probe.tables.logit_lens import (
    LOGIT_LENS,
    LOGIT_LENS_TOKENS,
    logit_lens,
    logit_lens_tokens,
)
from mixtral_probe.tables.logit_lens import TOKEN_KEYS as LENS_TOKEN_KEYS
from mixtral_probe.tables.saliency import COLUMNS as SALIENCY_COLUMNS
from mixtral_probe.tables.saliency import (
    CONTEXTS,
    PLACES,
    PROMOTED,
    SALIENCY,
    expert_contexts,
    promoted_tokens,
    saliency,
)
from mixtral_probe.tables.saliency import KEYS as SALIENCY_KEYS
from mixtral_probe.tables.similarity import COLUMNS as SIMILARITY_COLUMNS
from mixtral_probe.tables.similarity import KEYS as SIMILARITY_KEYS
from mixtral_probe.tables.similarity import (
    RANK_KEYS,
    RANKS,
    SIMILARITY,
    SUBSET_KEYS,
    SUBSETS,
    expert_similarity,
    expert_subsets,
    norm_gate_ranks,
)
from mixtral_probe.tables.spec import COLUMNS, VALUES, TableSpec
from mixtral_probe.tables.timing import COLUMNS as TIMING_COLUMNS
from mixtral_probe.tables.timing import KEYS as TIMING_KEYS
from mixtral_probe.tables.timing import TIMING, timing
from mixtral_probe.tables.what_if import (
    CANDIDATE_KEYS,
    NEXT,
    TOKEN_KEYS,
    TOKENS,
    WHAT_IF,
    what_if,
    what_if_next_tokens,
    what_if_tokens,
)
from mixtral_probe.tables.what_if import COLUMNS as WHAT_IF_COLUMNS
from mixtral_probe.tables.what_if import KEYS as WHAT_IF_KEYS


def _spec(
    function: Callable[[Any], pd.DataFrame],
    keys: tuple[str, ...],
    metrics: dict[str, str],
    description: str,
    columns: dict[str, str],
    values: tuple[str, ...] = VALUES,
) -> TableSpec:
    """`columns` says what differs here from the same columns of other tables."""
    meanings = COLUMNS | columns
    held = {name: meanings[name] for name in (*keys, *values)}
    return TableSpec(function.__name__, "result", function, description, keys, held, metrics)


EXPERIMENTS: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        _spec(
            timing,
            TIMING_KEYS,
            TIMING,
            "Where the time and memory of a forward pass went, by part, site, layer and expert.",
            TIMING_COLUMNS,
        ),
        _spec(
            logit_lens,
            LENS_KEYS,
            LOGIT_LENS,
            "How what each layer would predict compares with the model's own prediction.",
            LENS_COLUMNS,
        ),
        _spec(
            logit_lens_tokens,
            LENS_TOKEN_KEYS,
            LOGIT_LENS_TOKENS,
            "The tokens each layer holds for the most probable next ones, after every token.",
            LENS_COLUMNS,
            ("predicted", *VALUES),
        ),
        _spec(
            ablation,
            ABLATION_KEYS,
            ABLATION,
            "What is lost without each expert, beside a placebo.",
            {"null": "what the placebo loses, or what `metric` says; empty where no placebo was run"},
        ),
        _spec(
            saliency,
            SALIENCY_KEYS,
            SALIENCY,
            "How much each expert adds to the tokens routed to it, and which are super experts.",
            {},
        ),
        _spec(
            promoted_tokens,
            PLACES,
            {},
            "The tokens whose logits an expert raises most, beyond what the layer's experts do on average.",
            SALIENCY_COLUMNS,
            PROMOTED,
        ),
        _spec(
            expert_contexts,
            PLACES,
            {},
            "Where each expert adds most to the residual stream, with the text around it.",
            SALIENCY_COLUMNS,
            CONTEXTS,
        ),
        _spec(
            expert_similarity,
            SIMILARITY_KEYS,
            SIMILARITY,
            "How alike every two experts of a layer are; rows without experts are about all pairs of the layer.",
            SIMILARITY_COLUMNS,
        ),
        _spec(
            norm_gate_ranks,
            RANK_KEYS,
            RANKS,
            "Whether the router prefers experts with long outputs; null: no connection.",
            SIMILARITY_COLUMNS,
        ),
        _spec(
            expert_subsets,
            SUBSET_KEYS,
            SUBSETS,
            "How far a layer's output is from that of all its experts when some alone may be chosen.",
            SIMILARITY_COLUMNS,
        ),
        _spec(
            what_if,
            WHAT_IF_KEYS,
            WHAT_IF,
            "What edits do to loss, predictions and routing, beside a placebo of the same size.",
            WHAT_IF_COLUMNS,
        ),
        _spec(what_if_tokens, TOKEN_KEYS, {}, "What edits do to each token.", WHAT_IF_COLUMNS, TOKENS),
        _spec(
            what_if_next_tokens,
            CANDIDATE_KEYS,
            {},
            "The most probable tokens after each document, without and with edits.",
            WHAT_IF_COLUMNS,
            NEXT,
        ),
    )
}
"""By name."""
