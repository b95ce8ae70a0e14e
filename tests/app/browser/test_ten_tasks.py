"""Ten things a researcher does, each in at most six clicks from the first page, with the answer the tables give."""

import io
import re
import zipfile

import pandas as pd
import pytest

from mixtral_probe import Trace, tables
from mixtral_probe.stats import RoutingStats, routing_stats
from tests.support.attention_traces import attentive_trace
from tests.support.browser import PATIENCE, dashboard, needs_chromium, needs_model
from tests.support.routing import estimate

pytestmark = needs_chromium
CLICKS = 6
WORDS = [f" {i}" if i % 3 == 0 else f" w{i}" for i in range(6 * 13)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def trace(folder) -> Trace:
    return Trace.load(attentive_trace(documents=6, length=13, pieces=WORDS).save(folder / "first.trace"))


@pytest.fixture(scope="module")
def address(folder, trace):
    attentive_trace(documents=3, length=9).save(folder / "disk" / "other.trace")
    with dashboard(folder, folder / "first.trace", f"--allow={folder / 'disk'}") as address:
        yield address


class Person:
    """Somebody before the first page, whose clicks are counted."""

    def __init__(self, context, address: str) -> None:
        self.page = context.new_page()
        self.clicks = 0
        self.page.goto(address)
        self.page.get_by_role("heading", name="Overview").wait_for()

    def click(self, place, **options) -> None:
        self.clicks += 1
        assert self.clicks <= CLICKS, f"more than {CLICKS} clicks"
        place.wait_for()
        self.settle()
        place.click(**options)

    def settle(self) -> None:
        """Wait until the page is drawn: what is clicked meanwhile may be drawn anew under the mouse."""
        self.page.locator("[data-test-script-state=notRunning]").wait_for()

    def go(self, page: str) -> None:
        self.click(self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=page, exact=True))
        self.page.get_by_role("heading", name=page, exact=True, level=1).wait_for()

    def download(self, place) -> bytes:
        with self.page.expect_download() as download:
            self.click(place)
        return download.value.path().read_bytes()

    def csv(self, key: str) -> pd.DataFrame:
        return pd.read_csv(io.BytesIO(self.download(self.page.locator(f".st-key-{key}_csv button"))))

    def sees(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()


@pytest.fixture
def person(reader, address):
    person = Person(reader, address)
    yield person
    person.page.close()


def rows(table: pd.DataFrame, **keys) -> pd.DataFrame:
    for name, value in keys.items():
        table = table[(table[name] == value).fillna(False).to_numpy(dtype=bool)]
    return table


def same(csv: pd.DataFrame, table: pd.DataFrame, *columns: str) -> None:
    """Whether a CSV has the rows of a table, as far as these columns go."""
    assert len(csv) == len(table) > 0
    for column in columns:
        expected = table[column].tolist()
        assert csv[column].tolist() == (pytest.approx(expected) if column in ("value", "weight") else expected)


def test_find_the_most_imbalanced_layer(person, trace):
    balance = rows(tables.balance(routing_stats(trace)), group="all", metric="max_violation")
    worst = balance.sort_values("value").iloc[-1]
    person.sees(f"Layer {worst['layer']} is the least balanced")
    person.click(person.page.locator(".st-key-finding_balance button").first)
    person.sees(f"Expert load, layer {worst['layer']}")
    shown = person.page.get_by_test_id("stMetric").filter(has_text="max violation").get_by_test_id("stMetricValue")
    assert float(shown.inner_text()) == pytest.approx(worst["value"], rel=5e-3)


def test_see_which_expert_takes_digits(person, trace):
    stats = RoutingStats.from_trace(trace, by="domain", where="token.is_digit")
    load = rows(tables.expert_load(stats), group="all", metric="share")
    where = person.page.get_by_role("textbox", name="Where")
    person.click(where)
    where.fill("token.is_digit")
    where.press("Enter")
    person.sees("Applied:")
    sentence = person.page.locator(".finding", has_text=f"n = {int(load['n'].iloc[0])}").first
    found = re.match(r"The most used expert is expert (\d+) of layer (\d+): ([\d.]+)%", sentence.inner_text())
    own = rows(load, expert=int(found[1]), layer=int(found[2])).iloc[0]
    assert estimate(own) == estimate(load).max()
    assert float(found[3]) == pytest.approx(100 * estimate(own), abs=0.051)


def test_follow_one_token(person, trace):
    person.go("Token routing")
    person.click(person.page.locator(".token").nth(5))
    person.sees("Route of “␣w5”")
    own = rows(tables.routes(trace), document=0, position=5)
    same(person.csv("route"), own, "layer", "rank", "expert", "weight")


def test_compare_two_domains(person, trace):
    person.go("Specialization")
    own = tables.group_divergence(routing_stats(trace))
    csv = person.csv("divergence")
    same(csv, rows(own, layer=0, metric=csv["metric"].iloc[0]), "group", "value")


def test_find_an_attention_sink_head(person, trace):
    sink = rows(tables.attention_summary(trace), metric="sink_share")
    sink = sink.iloc[estimate(sink).argmax()]
    person.go("Attention")
    person.sees(f"The strongest sink: layer {sink['layer']}, head {sink['head']}")
    person.click(person.page.locator(".st-key-attention_find_sink_share button").first)
    person.sees(f"Attention of layer {sink['layer']}, head {sink['head']}")
    shown = person.page.get_by_test_id("stMetricValue").first
    assert float(shown.inner_text().rstrip("%")) / 100 == pytest.approx(estimate(sink), rel=5e-3)


def test_get_the_csv_of_what_is_on_screen(person, trace):
    person.go("Expert load")
    load = rows(tables.expert_load(routing_stats(trace)), layer=0, group="all", metric="share")
    same(person.csv("load_bars"), load, "expert", "value", "n")


def test_share_the_address_with_a_colleague_who_sees_the_same(person, browser):
    person.go("Token routing")
    person.click(person.page.get_by_role("combobox", name="Document"))
    person.click(person.page.get_by_role("option", name="2 · text-2"))
    person.sees("document 2 · tokens 0 – 12 of 13 · layer 0")
    person.settle()
    person.page.get_by_role("slider").first.press("ArrowRight")
    person.sees("document 2 · tokens 0 – 12 of 13 · layer 1")
    person.page.wait_for_url("**document=2&layer=1**")
    context = browser.new_context(viewport={"width": 1440, "height": 1200})
    colleague = context.new_page()
    colleague.set_default_timeout(PATIENCE)
    for _ in ("opened", "loaded anew"):
        colleague.goto(person.page.url)
        colleague.get_by_text("document 2 · tokens 0 – 12 of 13 · layer 1").first.wait_for()
        assert tokens_of(colleague) == tokens_of(person.page)
    colleague.get_by_test_id("stSidebarNav").get_by_role("link", name="Balance loss").click()
    colleague.get_by_text("document 2 · tokens 0 – 12 of 13 · layer 1").first.wait_for()
    colleague.wait_for_url("**document=2**")  # the address is written once the page is drawn
    context.close()


def tokens_of(page) -> list[str]:
    """Text and colour of every token of the strip."""
    page.locator(".token").first.wait_for()
    return page.locator(".token").evaluate_all(
        "spans => spans.map(span => span.textContent + span.style.getPropertyValue('--color'))"
    )


@needs_model
def test_capture_a_new_text(person):
    person.go("Run")
    text = person.page.get_by_role("textbox", name="Text")
    person.click(text)
    text.fill("Two and two is four.")
    text.press("Control+Enter")
    person.sees("20 characters")
    person.click(person.page.get_by_role("button", name="Capture", exact=True))
    person.click(person.page.get_by_role("button", name="See it in Token routing"), timeout=3 * PATIENCE)
    person.page.locator(".token").first.wait_for()
    seen = person.page.locator(".token:not(.special)").all_text_contents()
    assert "".join(seen).replace("␣", " ").strip() == "Two and two is four."


def test_open_a_trace_from_disk(person):
    person.go("Run")
    path = person.page.get_by_role("textbox", name="Path of a trace")
    person.click(path)
    path.fill("other.trace")
    person.click(person.page.get_by_test_id("stFormSubmitButton").get_by_role("button"))
    person.sees("3 documents · 27 tokens")
    person.page.wait_for_url("**trace=other.trace**")


def test_make_the_html_report(person, trace, tmp_path):
    person.go("Run")
    person.click(person.page.get_by_role("combobox", name="Of the trace shown"))
    person.click(person.page.get_by_role("option", name="Report: one HTML page and the tables"))
    person.click(person.page.get_by_role("button", name="Export", exact=True))
    archive = zipfile.ZipFile(io.BytesIO(person.download(person.page.get_by_role("button", name="Download"))))
    files = {name.rsplit("/", 1)[-1]: name for name in archive.namelist()}
    expected = tables.write_csv(tables.expert_load(routing_stats(trace)), tmp_path / "expert_load.csv").read_bytes()
    assert archive.read(files["expert_load.csv"]) == expected
    page = next(archive.read(name).decode() for file, name in files.items() if file.endswith(".html"))
    assert "Expert load" in page
