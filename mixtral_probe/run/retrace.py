"""The tokens of a trace run again, to record what the trace lacks."""

from mixtral_probe.corpus import Corpus
from mixtral_probe.errors import InputError
from mixtral_probe.instruments import Window
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.capture import record
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.plan import Plan
from mixtral_probe.run.provenance import model_fingerprint
from mixtral_probe.run.subject import Subject
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder


def retrace(subject: Subject, trace: Trace, planned: Plan, attention: AttentionPlan | None) -> Trace:
    """Run the window of a trace that ``plan_of_window`` gives again; see ``Probe.retrace``."""
    meta = trace.meta.model_copy(update={"created": ""})
    builder = TraceBuilder(planned.documents, planned.tokens, meta, attention=attention)
    record(builder, subject, planned, RunOptions())
    return builder.finish()


def plan_of_window(subject: Subject, trace: Trace, document: int, chunk: int) -> Plan:
    """One window of a trace as window 0 of document 0, without the columns that a run fills.

    Raises:
        InputError: the trace is of another model, the window does not exist, or token ids are missing.
    """
    _check_model(subject.model, trace)
    rows = trace.tokens.iloc[trace.rows(document)]
    rows = rows[(rows["chunk"] == chunk).to_numpy(dtype=bool)]
    if rows.empty:
        raise InputError(
            f"a window must exist, got window {chunk} of document {document}; see chunk and document in trace.tokens"
        )
    if (rows["token_id"] < 0).any():
        raise InputError(
            "a trace is run again from its token ids, got one where some are missing; capture the text with a Probe"
        )
    tokens = rows.drop(columns=["nll", "predicted_id"]).assign(document=0, chunk=0).reset_index(drop=True)
    documents = trace.documents.iloc[[document]].assign(document=0).reset_index(drop=True)
    corpus = Corpus(str(trace.meta.corpus.get("name", "")), ())
    return Plan(corpus, documents, tokens, (Window(0, 0, 0, len(tokens)),))


def _check_model(model: MixtralForCausalLM, trace: Trace) -> None:
    if trace.meta.model.get("fingerprint") != model_fingerprint(model):
        name = trace.meta.model.get("name") or "a model without a name"
        raise InputError(
            f"a trace is run again by its own model, got a trace of other weights ({name}); "
            "open that model, or record what you need with Probe.trace"
        )
