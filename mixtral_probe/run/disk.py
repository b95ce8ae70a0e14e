"""Bytes that a capture writes."""

from mixtral_probe.run.plan import Plan, longer
from mixtral_probe.run.subject import Subject
from mixtral_probe.stats.stats_size import statistics_bytes
from mixtral_probe.trace import AttentionPlan, TraceMeta, estimate_bytes


def record_bytes(subject: Subject, planned: Plan, attention: AttentionPlan | None = None, new_tokens: int = 0) -> int:
    """Return how many bytes the record of a plan has, each document continued by some new tokens."""
    windows = longer(planned.windows, new_tokens) if new_tokens else planned.windows
    return estimate_bytes(_meta(subject), [(w.document, w.chunk, w.length) for w in windows], attention=attention)


def added_bytes(subject: Subject, planned: Plan, new_tokens: int = 0) -> int:
    """Return at most how many bytes of statistics a capture adds to its trace."""
    config = subject.config
    return statistics_bytes(
        planned.documents, planned.tokens, layers=config.num_hidden_layers, experts=config.num_local_experts,
        chosen=config.num_experts_per_tok, new_tokens=new_tokens,
    )  # fmt: skip


def _meta(subject: Subject) -> TraceMeta:
    config = subject.config
    return TraceMeta(
        num_layers=config.num_hidden_layers,
        num_experts=config.num_local_experts,
        num_experts_per_tok=config.num_experts_per_tok,
        num_heads=config.num_attention_heads,
    )
