"""What a capture writes beside its record."""

from mixtral_probe.run.plan import Plan
from mixtral_probe.run.subject import Subject
from mixtral_probe.stats.stats_size import statistics_bytes


def added_bytes(subject: Subject, planned: Plan, new_tokens: int = 0) -> int:
    """Return at most how many bytes of statistics a capture adds to its trace."""
    config = subject.config
    return statistics_bytes(
        planned.documents, planned.tokens, layers=config.num_hidden_layers, experts=config.num_local_experts,
        chosen=config.num_experts_per_tok, new_tokens=new_tokens,
    )  # fmt: skip
