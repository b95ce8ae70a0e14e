"""Instruments: recorders, timers, placebos and edits of one forward call, with their clocks and copiers."""

from mixtral_probe.instruments.clocks import Clock, DeviceClock, HostClock, clock_for
from mixtral_probe.instruments.copier import Copier, HostCopier, StreamCopier, copier_for, on_device
from mixtral_probe.instruments.generation_recorder import GenerationRecorder, RecordedCall
from mixtral_probe.instruments.memory_meter import MemoryMeter
from mixtral_probe.instruments.recorder import Recorder, Window
from mixtral_probe.instruments.timer import FORWARD, NvtxRanges, Span, Spans, Timer

__all__ = [
    "FORWARD",
    "Clock",
    "Copier",
    "DeviceClock",
    "GenerationRecorder",
    "HostClock",
    "HostCopier",
    "MemoryMeter",
    "NvtxRanges",
    "RecordedCall",
    "Recorder",
    "Span",
    "Spans",
    "StreamCopier",
    "Timer",
    "Window",
    "clock_for",
    "copier_for",
    "on_device",
]
