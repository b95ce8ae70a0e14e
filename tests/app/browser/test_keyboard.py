"""The main controls can be reached with the keyboard, and it is seen where one is."""

import pytest

from tests.support.browser import needs_chromium, settled

pytestmark = needs_chromium
FOCUS = """
() => {
  let here = document.activeElement;
  while (here.shadowRoot?.activeElement) here = here.shadowRoot.activeElement;
  const seen = [];
  for (let at = here; at && seen.length < 4; at = at.parentElement) {
    const style = getComputedStyle(at);
    seen.push(style.outlineStyle !== "none" && style.outlineWidth !== "0px" || style.boxShadow !== "none");
  }
  const name = here.getAttribute("aria-label") || here.textContent.trim().slice(0, 40) || here.getAttribute("role");
  return [name, here.className.toString().includes("token") ? "token" : here.getAttribute("role") || here.tagName,
          seen.some(Boolean)];
}
"""
STEPS = 60


@pytest.mark.parametrize("query", ["", "?embed=true"])
def test_tab_reaches_navigation_where_and_the_text(page, address, query):
    page.goto(f"{address}/token_routing{query}")
    page.locator(".token").first.wait_for()
    settled(page)
    reached = []
    for _ in range(STEPS):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUS))
    names = {name for name, _, _ in reached}
    assert {"Where"} <= names, reached
    assert any("Expert load" in (name or "") for name in names), reached
    assert any(kind == "token" for _, kind, _ in reached), reached
    hidden = [name for name, kind, seen in reached if not seen and kind in ("A", "token")]
    assert hidden == []
