"""The tokens of a trace run once more, to see what the trace did not keep."""

import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.instruments import Window, copier_for
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.capture import run_batch
from mixtral_probe.run.provenance import model_fingerprint
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder


def retrace(
    model: MixtralForCausalLM, trace: Trace, *, document: int = 0, chunk: int = 0, attention: AttentionPlan | None
) -> Trace:
    """One window of a trace, run again: a trace of that window alone, as window 0 of document 0.

    Args:
        model: the one the trace was made with.
        trace: with token ids.
        document, chunk: the window.
        attention: layers and heads whose attention is recorded this time.

    Raises:
        InputError: the model is another, the window is not there, or token ids are missing.
    """
    check_model(model, trace)
    tokens = window_tokens(trace, document, chunk)
    labels = trace.documents.iloc[[document]].drop(columns="document")
    builder = TraceBuilder(labels, tokens, trace.meta.model_copy(update={"created": ""}), attention=attention)
    copier = copier_for(model.lm_head.weight.device)
    run_batch(model, builder, tokens["token_id"].to_numpy(), [Window(0, 0, 0, len(tokens))], (), copier)
    builder.mark_done([0])
    return builder.finish()


def check_model(model: MixtralForCausalLM, trace: Trace) -> None:
    """Raise InputError when a trace was made with another model."""
    if trace.meta.model.get("fingerprint") != model_fingerprint(model):
        name = trace.meta.model.get("name") or "a model without a name"
        raise InputError(
            f"a trace is run again by the model it was made with, but this one was made with other weights ({name}); "
            "open that model, or record what you need with Probe.trace"
        )


def window_tokens(trace: Trace, document: int, chunk: int) -> pd.DataFrame:
    """The rows of `trace.tokens` of one window, as window 0 of document 0, without what a run finds out.

    Raises:
        InputError: the window is not there, or token ids are missing.
    """
    own = trace.tokens.iloc[trace.rows(document)]
    own = own[(own["chunk"] == chunk).to_numpy(dtype=bool)]
    if own.empty:
        raise InputError(f"window {chunk} of document {document} was asked for, but there is none")
    if (own["token_id"] < 0).any():
        raise InputError("a trace is run again from its token ids, but some are missing; capture the text with a Probe")
    return own.drop(columns=["nll", "predicted_id"]).assign(document=0, chunk=0).reset_index(drop=True)
