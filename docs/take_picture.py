"""Take the README's picture of the dashboard anew: `python docs/take_picture.py` (needs playwright and Chromium)."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "images" / "token-routing.png"
SIZE = {"width": 1360, "height": 860}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Start the dashboard on the example trace, open Token routing, save what a reader sees."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mixtral_probe", "dashboard", "--port", str(port)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        _take(f"http://127.0.0.1:{port}/token_routing?layer=4")
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            with urlopen(url):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the dashboard did not start within a minute")


def _take(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(url)
        page.locator(".token").first.wait_for()
        page.locator("[data-test-script-state=notRunning]").wait_for()
        page.wait_for_timeout(1500)  # for fonts and the last animation
        PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
