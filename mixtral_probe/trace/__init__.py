"""The record of a run: what routers and attention heads did, checked, in memory or in a folder on disk."""

from mixtral_probe.trace.attention import AttentionPlan, AttentionRecord, pack_triangle, unpack_triangle, windows_of
from mixtral_probe.trace.builder import TraceBuilder
from mixtral_probe.trace.chrome import chrome_trace, write_chrome_trace
from mixtral_probe.trace.fingerprint import fingerprint
from mixtral_probe.trace.meta import SCHEMA_VERSION, TraceMeta
from mixtral_probe.trace.results import (
    AblationResult,
    LogitLensResult,
    Result,
    SaliencyResult,
    SimilarityResult,
    SubsetsResult,
    TimingResult,
    WhatIf,
)
from mixtral_probe.trace.series import training_traces
from mixtral_probe.trace.storage.plan import estimate_bytes, run_name
from mixtral_probe.trace.trace import Trace
from mixtral_probe.trace.units import UNITS, unit_numbers

__all__ = [
    "SCHEMA_VERSION",
    "UNITS",
    "AblationResult",
    "AttentionPlan",
    "AttentionRecord",
    "LogitLensResult",
    "Result",
    "SaliencyResult",
    "SimilarityResult",
    "SubsetsResult",
    "TimingResult",
    "Trace",
    "TraceBuilder",
    "TraceMeta",
    "WhatIf",
    "chrome_trace",
    "estimate_bytes",
    "fingerprint",
    "pack_triangle",
    "run_name",
    "training_traces",
    "unit_numbers",
    "unpack_triangle",
    "windows_of",
    "write_chrome_trace",
]
