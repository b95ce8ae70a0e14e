"""Tidy tables of a trace or its statistics."""

from mixtral_probe.tables.load import balance, expert_load, load_by_rank

__all__ = ["balance", "expert_load", "load_by_rank"]
