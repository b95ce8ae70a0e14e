"""A running dashboard on one random trace, and pages of a browser that may talk to no other server."""

from urllib.parse import urlparse

import pytest

from tests.support.app_traces import routed_trace
from tests.support.browser import PATIENCE, chromium, dashboard


@pytest.fixture(scope="package")
def trace():
    return routed_trace()


@pytest.fixture(scope="package")
def address(trace, tmp_path_factory):
    """Of a dashboard that shows `trace`."""
    folder = tmp_path_factory.mktemp("browser")
    with dashboard(folder, trace.save(folder / "random.trace")) as address:
        yield address
    assert list(folder.glob("mixtral-probe-*")) == [], "the captures of a process are deleted with it"


@pytest.fixture(scope="package")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def reader(browser):
    """Pages of one reader, who has the dashboard's scripts in the browser's cache after the first of them."""
    context = browser.new_context(viewport={"width": 1440, "height": 1200})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(reader):
    """A page that fails the test when it sends a request to another server, or when its script breaks."""
    page = reader.new_page()
    requested, broken = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    yield page
    page.close()
    outside = [url for url in requested if urlparse(url).hostname not in (None, "127.0.0.1")]
    assert outside == []
    assert broken == []
