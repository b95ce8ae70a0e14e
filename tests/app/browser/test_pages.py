"""The dashboard in a real browser, which may talk to nobody but the dashboard."""

from mixtral_probe import tables
from mixtral_probe.stats import routing_stats
from tests.support.app_traces import HOSTILE
from tests.support.browser import PATIENCE, needs_chromium, needs_model, settled

pytestmark = needs_chromium


def colours(page) -> list[str]:
    return page.locator(".token").evaluate_all("spans => spans.map(span => span.style.getPropertyValue('--color'))")


def test_expert_load_shows_charts_and_a_click_on_the_map_chooses(page, address):
    page.goto(f"{address}/expert_load")
    chart = page.locator(".js-plotly-plot .nsewdrag").first
    chart.wait_for()
    assert page.get_by_role("heading", name="Expert load", exact=True).is_visible()
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 2.5 / 4, box["y"] + box["height"] * 1.5 / 3)
    page.wait_for_url("**/expert_load?trace=random.trace&layer=1&expert=2")
    page.reload()
    page.get_by_text("Expert load, layer 1", exact=True).wait_for()


def test_the_layer_changes_the_colours_of_the_text(page, address, trace):
    page.goto(f"{address}/token_routing")
    page.locator(".token").first.wait_for()
    first = colours(page)
    page.get_by_role("slider").first.press("ArrowRight")
    page.wait_for_url("**layer=1**")
    page.get_by_text("layer 1 · first choice").wait_for()
    assert len(first) == len(colours(page)) == 60
    changed = [a != b for a, b in zip(first, colours(page), strict=True)]
    assert changed == (trace.expert_ids[0, :60, 0] != trace.expert_ids[1, :60, 0]).tolist()


def test_hover_and_keyboard_show_the_logits_and_a_click_the_route(page, address, trace):
    page.goto(f"{address}/token_routing")
    page.locator(".token").nth(2).hover()
    tip = page.locator(".tip")
    tip.wait_for()
    assert tip.locator(".value").all_inner_texts() == [f"{z:.3f}" for z in trace.router_logits[0, 2]]
    page.locator(".token").nth(2).click()
    page.get_by_text("Route of “␣the”").wait_for()
    page.locator(".token").nth(2).focus()
    page.keyboard.press("ArrowRight")
    tip.wait_for()
    assert tip.locator(".value").first.inner_text() == f"{trace.router_logits[0, 3, 0]:.3f}"


def test_enter_picks_a_token_and_the_link_shows_it_again(page, address):
    page.goto(f"{address}/token_routing?where=token.number%20in%205..40")
    page.locator(".token").first.wait_for()
    assert page.locator(".token.dim").count() == 60 - 36
    while page.evaluate("!document.activeElement.closest('[class*=st-key-strip]')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**picked=2**")
    page.get_by_text("Route of “␣the”").wait_for()
    page.reload()
    page.get_by_text("Route of “␣the”").wait_for()
    assert page.locator(".token.selected").inner_text() == "␣the"


def test_the_pinned_token_is_framed_while_another_is_picked(page, address):
    page.goto(f"{address}/token_routing?picked=2&pinned_token=0.4")
    page.locator(".token.pinned").wait_for()
    frames = page.locator(".token").evaluate_all("spans => spans.map(span => getComputedStyle(span).outlineStyle)")
    assert [row for row, frame in enumerate(frames) if frame != "none"] == [2, 4]
    assert (frames[2], frames[4]) == ("solid", "dashed")
    page.goto(f"{address}/token_routing?document=1&pinned_token=0.4")
    page.locator(".token").first.wait_for()
    assert page.locator(".token.pinned").count() == 0


def test_hostile_tokens_show_as_themselves_and_do_nothing(page, address):
    page.goto(f"{address}/token_routing")
    page.locator(".token").first.wait_for()
    seen = page.locator(".token").evaluate_all("spans => spans.map(span => span.textContent)")[: len(HOSTILE)]
    assert seen == [HOSTILE[0], "⏎", "␣the", "⟨U+202E⟩abc", *HOSTILE[4:]]
    assert page.evaluate("window.hacked") is None


def test_a_csv_is_the_table(page, address, trace, tmp_path):
    page.goto(f"{address}/expert_load")
    settled(page)
    with page.expect_download() as download:
        page.locator(".st-key-load_map_csv button").click()
    assert download.value.suggested_filename == "expert_load.csv"
    load = tables.expert_load(routing_stats(trace))
    shown = load[((load["group"] == "all") & (load["metric"] == "share")).to_numpy(dtype=bool)]
    expected = tables.write_csv(shown, tmp_path / "expected.csv").read_bytes()
    assert download.value.path().read_text().splitlines() == expected.decode().splitlines()


@needs_model
def test_a_capture_started_from_the_page_finishes_and_is_shown(page, address):
    page.goto(f"{address}/run")
    page.get_by_role("textbox", name="Text").fill("Two and two is four.")
    page.get_by_role("textbox", name="Text").press("Control+Enter")
    page.get_by_text("20 characters").wait_for()
    page.get_by_role("button", name="Capture", exact=True).click()
    page.get_by_role("button", name="See it in Token routing").click(timeout=3 * PATIENCE)
    page.get_by_text("tokens 0 – ").wait_for()
    page.locator(".token").first.wait_for()
    text = "".join(page.locator(".token:not(.special)").evaluate_all("spans => spans.map(span => span.textContent)"))
    assert text.replace("␣", " ").strip() == "Two and two is four."
    assert "Two" not in page.url
