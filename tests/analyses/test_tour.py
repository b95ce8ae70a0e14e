"""The tour runs, shows what it promises, and keeps its pictures when it is exported without a kernel."""

from pathlib import Path

import pytest

from mixtral_probe.resources import data_path

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed")

TOUR = Path(__file__).parents[2] / "analyses" / "tour.ipynb"
WIDGET, PLOTLY = "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json"
pytestmark = [
    pytest.mark.skipif(
        not (data_path("mixtral-mini") / "model.safetensors").exists(), reason="the embedded model has no weights here"
    ),
    # The kernel's sockets are left to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tour")
    notebook = nbformat.read(TOUR, 4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    assert {path.name for path in folder.iterdir()} == {"tour.trace", "tour-report"}
    return notebook


def shown(notebook, start):
    """What the cell whose last line starts so shows, by kind."""
    [cell] = [c for c in notebook.cells if c.cell_type == "code" and c.source.splitlines()[-1].startswith(start)]
    return {kind: data for output in cell.outputs for kind, data in output.get("data", {}).items()}


def test_it_is_committed_without_outputs():
    assert all(not cell.get("outputs") for cell in nbformat.read(TOUR, 4).cells)


@pytest.mark.parametrize("cell", ["probe.trace(", "trace", "written", 'mp.Trace.load("tour.trace")'])
def test_traces_show_as_coloured_text_and_as_a_widget(tour, cell):
    face = shown(tour, cell)
    assert set(face) >= {"text/html", "text/plain", WIDGET}
    assert 'class="token' in face["text/html"]
    assert "<svg" in face["text/html"]


def test_statistics_and_tables_show_richly(tour):
    assert "<svg" in shown(tour, "stats")["text/html"]
    assert "How much each expert is used." in shown(tour, "load")["text/html"]
    assert "The load-balancing losses" in shown(tour, "mp.tables.balance_loss(")["text/html"]


def test_figures_show_in_jupyter_and_in_an_export(tour):
    figures = [c for c in tour.cells if c.cell_type == "code" and c.source.splitlines()[-1].startswith("mp.figures.")]
    assert len(figures) >= 6
    for cell in figures:
        kinds = {kind for output in cell.outputs for kind in output.data}
        assert {PLOTLY, "text/html"} <= kinds


def test_an_export_without_a_kernel_keeps_the_pictures(tour):
    starts = ("probe.trace(", "stats", "mp.figures.expert_load_map")
    kept = [c for c in tour.cells if c.cell_type == "code" and c.source.splitlines()[-1].startswith(starts)]
    part = nbformat.v4.new_notebook(cells=kept, metadata=tour.metadata)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(part)
    assert html.count("Plotly.newPlot(") >= 1
    assert "plotly.js v" in html
    assert html.count('class="token') > 20
    assert html.count("fill-opacity=") >= 2 * 64
