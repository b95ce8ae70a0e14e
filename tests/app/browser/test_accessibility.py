"""No page has a serious fault for readers who use a keyboard or a screen reader, as axe-core judges in a browser."""

import shutil
import subprocess

import pytest

from tests.support.app_traces import APP
from tests.support.browser import PATIENCE, needs_chromium

pytestmark = needs_chromium
PAGES = sorted(path.stem for path in (APP / "app_pages").glob("[!_]*.py"))
TRIES = 4
AXE = "axe-core@4"
SHORTENED = (
    f'label-content-name-mismatch: <span class="token" dir="auto" tabindex="-1" role="button" aria-label="{"x" * 9}'
)
"""The token of 10,000 characters is read out by its first 80, so that a screen reader can go on."""
JUDGE = """
async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter((fault) => ["serious", "critical"].includes(fault.impact))
  .flatMap((fault) => fault.nodes.map((node) => `${fault.id}: ${node.html.slice(0, 200)} ${node.failureSummary}`))
"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("axe-core comes from npm, which is not installed")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), AXE]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"npm cannot fetch axe-core: {error}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["light", "dark"])
def themed(request, browser, address, axe):
    """A page of the dashboard in one theme, with axe loaded."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme=request.param)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.get_by_role("heading", level=1).first.wait_for()
    page.evaluate(axe)
    yield page
    page.close()


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_no_serious_fault(themed, page):
    link = themed.get_by_test_id("stSidebarNav").locator(f"a[href$='/{'' if page == 'overview' else page}']")
    link.click()
    themed.get_by_role("heading", name=link.inner_text().splitlines()[-1], exact=True, level=1).wait_for()
    themed.locator("[data-test-script-state=notRunning]").wait_for()
    for _ in range(TRIES):
        themed.wait_for_timeout(1_000)  # what a run draws anew fades in, and faded text has too little contrast
        faults = [fault for fault in themed.evaluate(JUDGE) if not fault.startswith(SHORTENED)]
        if not faults:
            break
    assert faults == []


def test_embedded_a_page_has_no_menu_of_streamlit(page, address):
    page.goto(f"{address}/expert_load?embed=true&layer=1")
    page.get_by_text("Expert load, layer 1", exact=True).wait_for()
    assert page.locator("[data-testid=stToolbar]").count() == 0


def test_every_chart_is_named_for_those_who_cannot_see_it(page, address):
    page.goto(f"{address}/expert_load?layer=1")
    page.get_by_role("figure", name="Chart: Expert load, layer 1.").wait_for()
    page.locator("[data-test-script-state=notRunning]").wait_for()
    charts = page.get_by_test_id("stPlotlyChart")
    labels = charts.evaluate_all("parts => parts.map(part => part.getAttribute('aria-label') || '')")
    assert len(labels) == len({*labels}) > 3
    assert all(label.startswith("Chart: ") for label in labels)
