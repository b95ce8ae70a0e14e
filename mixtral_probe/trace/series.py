"""The traces of one model at several steps of its training: a folder of `step-00000.trace`, `step-00050.trace`, …"""

import re
from os import PathLike

from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path
from mixtral_probe.resources import data_path
from mixtral_probe.trace.trace import Trace

TRAINING = "training_traces"
_NAME = re.compile(r"step-(\d+)\.trace")


def training_traces(folder: str | PathLike[str] = "bundled") -> dict[int, Trace]:
    """Read the trace of each step, ascending; "bundled" are those of the embedded model's own training.

    Raises:
        InputError: the folder does not exist or has no trace whose name is a step.
    """
    path = data_path(TRAINING) if folder == "bundled" else checked_path(folder)
    steps = {
        int(match[1]): entry
        for entry in (path.iterdir() if path.is_dir() else ())
        if (match := _NAME.fullmatch(entry.name))
    }
    if not steps:
        raise InputError(f"a folder of training traces must hold folders such as step-00050.trace, got none in {path}")
    return {step: Trace.load(steps[step]) for step in sorted(steps)}
