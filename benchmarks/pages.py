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
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from opening import big_trace
from playwright.sync_api import Page, sync_playwright

from mixtral_probe import Trace
from mixtral_probe.stats.beside import save_beside

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
STARTS, ROUNDS = 3, 3
PATIENCE = 120_000
"""Milliseconds."""
CHART = ".js-plotly-plot .main-svg"
STILL = "[data-test-script-state=notRunning]"


def main() -> None:
    """Measure both traces and print."""
    if CHROMIUM is None:
        sys.exit("the pages are measured in Chromium, which is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        for tokens in (20_000, 1_000_000):
            path = big_trace(Path(folder) / f"{tokens}.trace", tokens)
            save_beside(Trace.load(path))
            print(f"{tokens:,} tokens × 8 layers")
            report(browser, path)


def report(browser: Any, path: Path) -> None:
    """Print what one trace takes."""
    first: list[float] = []
    for number in range(STARTS):
        with Server(path) as server:
            page, received = listening(browser)
            page.goto(f"{server.address}/expert_load")
            page.locator(CHART).first.wait_for()
            first.append(time.perf_counter() - server.started)
            if number + 1 == STARTS:
                page.locator(STILL).wait_for()
                switches, slides = switch_pages(page), slide(page, server.address)
                peak = server.memory("VmHWM")
            page.close()
    print(f"  first chart after start   {median(first):.2f} s")
    for name, seconds in switches.items():
        print(f"  page switch to {name:<20} {median(seconds):.2f} s")
    print(f"  page switch, median       {median(median(seconds) for seconds in switches.values()):.2f} s")
    print(f"  slider to new picture     {median(slides):.2f} s")
    print(f"  largest message           {max(received) / 1e6:.2f} MB")
    print(f"  server memory, peak       {peak:.0f} MB")


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


def switch_pages(page: Page) -> dict[str, list[float]]:
    """Seconds from a click in the menu until the page stands still, for every page."""
    names = page.get_by_test_id("stSidebarNavLink").all_inner_texts()
    names = [name.splitlines()[-1] for name in names]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in [*names[1:], names[0]]:
            begun = time.perf_counter()
            page.get_by_test_id("stSidebarNavLink").filter(has_text=name).first.click()
            page.get_by_role("heading", level=1, name=name).first.wait_for()
            page.locator(STILL).wait_for()
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
        page.locator(f".strip[aria-label*='layer {layer}']").wait_for()
        found.append(time.perf_counter() - begun)
    return found


if __name__ == "__main__":
    main()
