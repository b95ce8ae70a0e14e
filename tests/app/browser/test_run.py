"""Running things from the page in a real browser: alone, and eight people at once."""

import pytest

from tests.support.browser import PATIENCE, needs_chromium, needs_model, settled

pytestmark = [*needs_chromium, needs_model]
PEOPLE = 8


def text_of(page) -> str:
    """The text of the token strip, as it was typed."""
    tokens = page.locator(".token:not(.special)")
    return "".join(tokens.evaluate_all("spans => spans.map(span => span.textContent)")).replace("␣", " ").strip()


def capture(page, text: str) -> None:
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_role("textbox", name="Text").press("Control+Enter")
    page.get_by_text(f"{len(text)} characters").wait_for()
    page.get_by_role("button", name="Capture", exact=True).click()


def test_a_measurement_shows_where_the_time_went(page, address):
    page.goto(f"{address}/timing")
    page.get_by_role("textbox", name="Text to run").fill("Two and two is four.")
    page.get_by_role("textbox", name="Text to run").press("Control+Enter")
    page.get_by_role("button", name="Measure").click()
    page.get_by_text("Time of the forward pass").wait_for(timeout=5 * PATIENCE)
    settled(page)
    assert page.get_by_text("cost of timing").first.is_visible()
    with page.expect_download() as download:
        page.locator(".st-key-timing_chrome button").click()
    assert download.value.suggested_filename == "forward.json"
    assert '"traceEvents"' in download.value.path().read_text()


@pytest.mark.slow
def test_eight_people_at_once_each_see_their_own_text(browser, address):
    people = [browser.new_context().new_page() for _ in range(PEOPLE)]
    texts = [f"Person {number} counts to {number}{number}." for number in range(PEOPLE)]
    for person in people:
        person.set_default_timeout(10 * PATIENCE)
        person.goto(f"{address}/run")
    for person, text in zip(people, texts, strict=True):
        capture(person, text)
    for person, text in zip(people, texts, strict=True):
        person.get_by_role("button", name="See it in Token routing").click()
        person.locator(".token").first.wait_for()
        assert text_of(person) == text
        assert person.get_by_role("button", name="See it in Token routing").count() == 0
        person.context.close()
