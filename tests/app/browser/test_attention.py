"""The page about attention in a real browser."""

import re

import pytest

from tests.support.attention_traces import SINK, attentive_trace
from tests.support.browser import dashboard, needs_chromium, settled

pytestmark = needs_chromium
LENGTH = 120
LIMIT = 2_000_000
"""Bytes that a figure may take on its way to the browser."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    with dashboard(folder, attentive_trace(documents=2, length=LENGTH).save(folder / "maps.trace")) as address:
        yield address


@pytest.fixture
def page(page):
    page.set_viewport_size({"width": 1400, "height": 2000})
    return page


def plot_of(page, key):
    """Where the cells of a chart are: left, top, width and height."""
    plot = page.locator(f".st-key-{key}_chart .nsewdrag").first
    plot.wait_for()
    settled(page)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    return box["x"], box["y"], box["width"], box["height"]


def test_a_sink_head_is_found_in_two_clicks_from_the_first_page(page, address):
    page.goto(address)
    page.get_by_role("link", name="Attention").click()
    layer, head = SINK
    page.get_by_text(f"The strongest sink: layer {layer}, head {head}").wait_for()
    page.locator(".st-key-attention_find_sink_share button").first.click()
    page.get_by_text(f"Attention of layer {layer}, head {head}", exact=True).wait_for()


def test_a_click_on_the_navigator_shows_the_map_of_that_head(page, address):
    page.goto(f"{address}/attention")
    left, top, width, height = plot_of(page, "heads_map")
    page.mouse.click(left + width * 1.5 / 3, top + height * 1.5 / 2)
    page.get_by_text("Attention of layer 1, head 1", exact=True).wait_for()


def test_a_window_that_is_dragged_over_appears_at_full_resolution(page, address):
    page.goto(f"{address}/attention")
    left, top, width, height = plot_of(page, "attention_map")
    page.mouse.move(left + width * 0.1, top + height * 0.5)
    page.mouse.down()
    page.mouse.move(left + width * 0.2, top + height * 0.6, steps=4)
    page.mouse.move(left + width * 0.3, top + height * 0.7, steps=4)
    page.mouse.up()
    page.locator(".st-key-attention_part_chart .js-plotly-plot").wait_for()


def test_a_click_on_the_map_chooses_its_query_which_a_drag_leaves_as_it_is(page, address):
    page.goto(f"{address}/attention")
    left, top, width, height = plot_of(page, "attention_map")
    page.get_by_text(re.compile(f"^What the token at {LENGTH - 1} ")).wait_for()
    page.mouse.click(left + width * 0.2, top + height * 0.5)
    page.get_by_text(re.compile(f"^What the token at {LENGTH - 1} ")).wait_for(state="detached")
    settled(page)
    chosen = page.get_by_text(re.compile("^What the token at ")).inner_text()
    page.mouse.move(left + width * 0.1, top + height * 0.5)
    page.mouse.down()
    page.mouse.move(left + width * 0.3, top + height * 0.7, steps=8)
    page.mouse.up()
    page.locator(".st-key-attention_part_chart .js-plotly-plot").wait_for()
    settled(page)
    assert page.get_by_text(re.compile("^What the token at ")).inner_text() == chosen


def test_no_message_to_the_browser_is_larger_than_a_figure_may_be(page, address):
    sizes = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sizes.append(len(frame))))
    page.goto(f"{address}/attention")
    plot_of(page, "attention_map")
    assert 10_000 < max(sizes) < LIMIT
