"""The result of timing the forward pass."""

from typing import Any

from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result


class TimingResult(Result):
    """Time and memory of a forward pass by site, layer and expert; ``tables.timing``.

    Seconds of sites and places exclude the spans inside them; those of ``expert_output`` are the sum over all experts.
    Bytes are the most allocated during a span beyond those allocated when it began, and include the spans inside it;
    they are present where memory was measured.
    """

    KIND = "timing"
    TABLES = ("timing",)

    seconds_timed = Array("run")
    """[runs] of each run with timers."""
    seconds_plain = Array("run")
    """[runs] of the run without timers next to it."""
    site_seconds = Array("layer", "site", "run")
    """[L, sites, runs]"""
    expert_seconds = Array("layer", "expert", "run")
    """[L, E, runs]"""
    layer_seconds = Array("layer", "run")
    """[L, runs] of the whole layer."""
    place_seconds = Array("place", "run")
    """[places, runs] of the places that belong to no layer."""
    expert_rows = Array("layer", "expert")
    """[L, E] rows routed to the expert in a run, padding included."""
    site_bytes = Array("layer", "site")
    expert_bytes = Array("layer", "expert")
    place_bytes = Array("place")
    span_start = Array("span")
    """[spans] seconds since the start of the last timed run; seconds, layer, expert and parent follow alike."""
    span_seconds = Array("span")
    span_layer = Array("span", whole=True)
    """-1 outside the layers."""
    span_expert = Array("span", whole=True)
    """-1 outside the experts."""
    span_parent = Array("span", whole=True)
    """The span around it; -1 for none."""
    settings = Setting[dict[str, Any]]("timing")
    """clock, warmup, tokens, positions, batches, threads, nvtx."""
    device = Setting[str]()
    dtype = Setting[str]()
    model = Setting[dict[str, Any]]()
