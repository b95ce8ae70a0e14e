"""The record of a run: what routers and attention heads did, checked, in memory or in a folder on disk."""

from mixtral_probe.trace.attention import AttentionPlan, AttentionRecord, pack_triangle, unpack_triangle
from mixtral_probe.trace.meta import SCHEMA_VERSION, TraceMeta
from mixtral_probe.trace.trace import Trace

__all__ = [
    "SCHEMA_VERSION",
    "AttentionPlan",
    "AttentionRecord",
    "Trace",
    "TraceMeta",
    "pack_triangle",
    "unpack_triangle",
]
