"""The token strip in a real browser: as a widget with a model that stands in for the kernel's, and without any."""

import json
import shutil

import pytest

from mixtral_probe import figures, notebook
from tests.support.app_traces import HOSTILE, routed_trace

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    # Closing a browser leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
MODEL = """
const state = %s, listeners = {};
window.model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; (listeners[`change:${name}`] ?? []).forEach((call) => call()); },
  on: (names, call) => names.split(" ").forEach((name) => (listeners[name] ??= []).push(call)),
  save_changes: () => {},
};
"""


@pytest.fixture(scope="module")
def page():
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def show_widget(page, strip, before=""):
    names = ["layers", "documents", "choices", "layer", "rank", "document", "page", "pages", "selected", "data", "twin"]
    state = json.dumps({name: getattr(strip, name) for name in names}).replace("</", "<\\/")
    code = strip._esm.replace("export default { render };", "") + MODEL % state + "render({ model, el: target });"
    page.set_content(f"{before}<style>{strip._css}</style><div id=target></div>")
    page.evaluate(f"() => {{ const target = document.getElementById('target'); {code} }}")


def test_the_widget_draws_its_tokens_and_asks_for_other_layers(page):
    trace = routed_trace(documents=2, length=20)
    strip = notebook.TokenStrip(trace)
    show_widget(page, strip)
    seen = page.locator(".token").all_text_contents()[: len(HOSTILE)]
    assert seen == [HOSTILE[0], "⏎", "␣the", "⟨U+202E⟩abc", *HOSTILE[4:]]
    assert page.evaluate("window.hacked") is None
    page.locator(".token").nth(2).hover()
    assert page.locator(".tip .value").all_inner_texts() == [f"{z:.3f}" for z in trace.router_logits[0, 2]]
    page.get_by_role("slider", name="Layer").press("ArrowRight")
    assert page.evaluate("model.get('layer')") == 1
    page.get_by_role("combobox", name="Document").select_option("text-1")
    assert page.evaluate("model.get('document')") == 1
    page.locator(".token").nth(2).click()
    assert page.evaluate("model.get('selected')") == 2


def test_the_widget_takes_the_place_of_the_static_text(page):
    trace = routed_trace(documents=1, length=20)
    show_widget(page, notebook.TokenStrip(trace, twin="twin"), '<div id="twin"><p class="static">text</p></div>')
    assert not page.locator("#twin .static").is_visible()


def test_the_static_text_changes_its_layer_without_a_script(page):
    trace = routed_trace(documents=1, length=20)
    page.set_content(trace._repr_html_())
    colors = figures.expert_colors(4)
    for layer in (0, 2):
        page.get_by_role("radio", name=str(layer)).check()
        drawn = page.locator(".token").evaluate_all(
            "spans => spans.map(span => getComputedStyle(span).getPropertyValue('--color'))"
        )
        assert drawn == [colors[expert] for expert in trace.expert_ids[layer, :, 0]]
