"""The process in which chat templates run, with bounds of time and memory; see ``chat_render``."""

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SECONDS = 10.0
"""For one conversation; real templates take milliseconds."""
_PROGRAM = Path(__file__).with_name("chat_render.py")


class ChatProcess:
    """One process for all templates, started at the first conversation, and anew after one that was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(self, template: str, variables: dict[str, Any]) -> dict[str, str]:
        """Return {"text": …}, or {"error": …} where the template fails or exceeds a bound.

        Raises:
            TypeError, ValueError, RecursionError: a variable is no value of JSON.
        """
        request = json.dumps({"template": template, "variables": variables}).encode() + b"\n"
        with self._lock:
            start = time.monotonic()
            if answer := self._answer(request):
                return answer
        late = time.monotonic() - start >= SECONDS
        return {"error": f"more than {SECONDS:g} s of time" if late else "the end of its process"}

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def _answer(self, request: bytes) -> dict[str, str] | None:
        """Return the answer; None where the process ended first, by itself or because it took too long."""
        process = self._running()
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        line = b""
        try:
            line = _exchanged(process, request)
        finally:
            timer.cancel()
            if not line:  # also when interrupted: its next line would be the answer to this request
                self.close()
        answer: dict[str, str] | None = json.loads(line) if line else None
        return answer

    def _running(self) -> "subprocess.Popen[bytes]":
        # A process that was forked from this one must not write to the same pipes.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.close()
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
            self._owner = os.getpid()
        return self._process


def _exchanged(process: "subprocess.Popen[bytes]", request: bytes) -> bytes:
    """Return the line that answers a request; empty where the process ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except BrokenPipeError:
        return b""
    return process.stdout.readline()


CHAT_PROCESS = ChatProcess()
atexit.register(CHAT_PROCESS.close)
