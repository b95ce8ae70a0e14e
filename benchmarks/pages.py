"""How long a reader of the dashboard waits, and what the server holds: ``python benchmarks/pages.py``.

In Debian's Chromium: first chart after start, page switch, slider to new picture, on a trace of about 20,000 tokens and
on one of 1,000,000 tokens × 8 layers with its statistics beside it; the largest message to the browser, and the
server's memory.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from opening import big_trace
from playwright.sync_api import Page, sync_playwright

from mixtral_probe import Trace
from mixtral_probe.stats.cached_stats import cache_stats

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
STARTS, ROUNDS = 3, 3
PATIENCE = 120_000
"""Milliseconds."""


@dataclass(frozen=True)
class Limits:
    """Seconds and MB that a reader should not have to wait for or a server to hold; None where none is set."""

    switch: float
    first: float | None = None
    slide: float | None = None
    memory: float | None = None


LIMITS = {20_000: Limits(switch=1, first=4, slide=0.5), 1_000_000: Limits(switch=2, memory=1_200)}
"""By the tokens of the trace."""
CHART = ".js-plotly-plot .main-svg"
FOUND = """([selector, text]) => [document, ...document.querySelectorAll("*")]
    .map(part => part === document ? part : part.shadowRoot)
    .some(root => root && [...root.querySelectorAll(selector)].some(part => part.textContent.includes(text)))"""
"""Components keep their parts in roots of their own."""
STILL = "[data-test-script-state=notRunning]"


def main() -> None:
    """Measure both traces and print."""
    if CHROMIUM is None:
        sys.exit("the pages are measured in Chromium, which is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        for tokens, limits in LIMITS.items():
            path = big_trace(Path(folder) / f"{tokens}.trace", tokens)
            cache_stats(Trace.load(path))
            print(f"{tokens:,} tokens × 8 layers")
            report(browser, path, limits)


def report(browser: Any, path: Path, limits: Limits) -> None:
    """Print what one trace takes, beside what it may take."""
    first: list[float] = []
    for number in range(STARTS):
        with Server(path) as server:
            page, received = listening(browser)
            page.goto(f"{server.address}/expert_load")
            seen(page, CHART)
            first.append(time.perf_counter() - server.started)
            if number + 1 == STARTS:
                page.locator(STILL).wait_for()
                switches, slides = switch_pages(page), slide(page, server.address)
                peak = server.memory("VmHWM")
            page.close()
    tell("first chart after start", median(first), limits.first)
    for name, seconds in switches.items():
        tell(f"page switch to {name}", median(seconds), limits.switch)
    tell("page switch, median", median(median(seconds) for seconds in switches.values()), limits.switch)
    tell("slider to new picture", median(slides), limits.slide)
    tell("largest message", max(received) / 1e6, 2, unit="MB")
    tell("server memory, peak", peak, limits.memory, unit="MB")


def tell(name: str, value: float, limit: float | None, *, unit: str = "s") -> None:
    """Print a median, or a peak, beside what it may be at most."""
    beside = "" if limit is None else f"   at most {limit:g} {unit}{'' if value <= limit else ': MISSED'}"
    print(f"  {name:<30} {value:8.2f} {unit:<2}{beside}")


class Server:
    """A dashboard in a process of its own."""

    def __init__(self, trace: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mixtral_probe", "dashboard", "--port", str(port), str(trace)]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> "Server":
        while self.process.poll() is None:
            try:
                with urlopen(f"{self.address}/_stcore/health"):
                    return self
            except OSError:
                time.sleep(0.02)
        sys.exit("the dashboard did not start")

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def memory(self, name: str) -> float:
        """A line of the process's status, in MB."""
        [line] = [
            line for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if line.startswith(name)
        ]
        return int(line.split()[1]) / 1024


def listening(browser: Any) -> tuple[Page, list[int]]:
    """A page, and the sizes of the messages that reach it."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    received = [0]
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    return page, received


def seen(page: Page, selector: str, text: str = "") -> None:
    """Wait for the frame that shows such an element with this text: a locator looks only every half second."""
    page.wait_for_function(FOUND, arg=[selector, text], polling="raf")


def switch_pages(page: Page) -> dict[str, list[float]]:
    """Seconds from a click in the menu until the page stands still, for every page."""
    names = page.get_by_test_id("stSidebarNavLink").all_inner_texts()
    names = [name.splitlines()[-1] for name in names]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in [*names[1:], names[0]]:
            begun = time.perf_counter()
            page.get_by_test_id("stSidebarNavLink").filter(has_text=name).first.click()
            seen(page, f"{STILL} h1", name)
            found[name].append(time.perf_counter() - begun)
    return found


def slide(page: Page, address: str) -> list[float]:
    """Seconds from a step of the layer slider until the text has its new colours."""
    page.goto(f"{address}/token_routing")
    page.locator(".token").first.wait_for()
    page.locator(STILL).wait_for()
    found = []
    for layer in range(1, 8):
        begun = time.perf_counter()
        page.get_by_role("slider").first.press("ArrowRight")
        seen(page, f".strip[aria-label*='layer {layer}']")
        found.append(time.perf_counter() - begun)
    return found


if __name__ == "__main__":
    main()
