"""A box dragged over the map of the page Expert load, in a real browser."""

import pytest

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.registry import metric_of
from tests.support.browser import PATIENCE, needs_chromium, settled
from tests.support.routing import estimate

pytestmark = needs_chromium
LAYERS, EXPERTS = 3, 4


@pytest.fixture
def page(page, address):
    page.goto(f"{address}/expert_load")
    return page


def place(page, layer: float, expert: float) -> tuple[float, float]:
    """Where on the screen the middle of a cell is; layer 0 lies on top."""
    plot = page.locator(".st-key-load_map_chart .nsewdrag")
    plot.wait_for()
    settled(page)
    box = plot.bounding_box()
    return box["x"] + box["width"] * (expert + 0.5) / EXPERTS, box["y"] + box["height"] * (layer + 0.5) / LAYERS


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the map, given as layer and expert, to another."""
    (x, y), (to_x, to_y) = place(page, *start), place(page, *end)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move((x + to_x) / 2, (y + to_y) / 2, steps=4)
    page.mouse.move(to_x, to_y, steps=4)
    page.mouse.up()


def says(page, text: str) -> None:
    """Wait until the field *Where* holds a text."""
    page.wait_for_function(
        "text => document.querySelector('.st-key-where input')?.value === text", arg=text, timeout=PATIENCE
    )
    settled(page)


def cv_squared(page) -> str:
    shown = page.get_by_test_id("stMetric").filter(has_text=metric_of("cv_squared").label)
    return shown.get_by_test_id("stMetricValue").inner_text()


def expected(trace, where: str | None, layer: int) -> str:
    table = tables.balance(RoutingStats.from_trace(trace, by="domain", where=where))
    keys = (table["metric"] == "cv_squared") & (table["layer"] == layer) & (table["group"] == "all")
    return metric_of("cv_squared").text(table[keys.fillna(False).to_numpy(dtype=bool)].pipe(estimate).item())


def test_a_drag_narrows_where_and_the_numbers_until_all_is_shown_again(page, trace):
    drag(page, (0.7, 1.7), (2.3, 3.3))
    where = "layer in 1..2 and expert in 2..3"
    says(page, where)
    assert cv_squared(page) == expected(trace, where, 1)
    page.wait_for_url("**layer=1**")
    drag(page, (-0.3, -0.3), (0.3, 1.3))
    says(page, "layer in {0} and expert in 0..1")
    page.reload()
    says(page, "layer in {0} and expert in 0..1")
    page.get_by_role("button", name="Show all again").click()
    says(page, "")
    assert cv_squared(page) == expected(trace, None, 0)
    page.get_by_role("button", name="Show all again").wait_for(state="detached")
    page.go_back()
    says(page, "layer in {0} and expert in 0..1")


def test_the_same_box_can_be_drawn_again_and_a_click_still_chooses(page):
    for _ in range(2):
        drag(page, (0.7, 1.7), (2.3, 3.3))
        says(page, "layer in 1..2 and expert in 2..3")
        page.mouse.click(*place(page, 2, 1))
        page.wait_for_url("**layer=2**expert=1**")
        says(page, "layer in 1..2 and expert in 2..3")
        page.get_by_role("button", name="Show all again").click()
        says(page, "")
        page.mouse.click(*place(page, 0, 0))
        page.wait_for_url("**expert=0**")
