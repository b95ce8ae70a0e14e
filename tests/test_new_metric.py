"""A new metric is four files, as CONTRIBUTING.md says: one is added to a copy of the tree and appears everywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.routing import fixed_trace

ROOT = Path(__file__).parents[1]
FILES = {
    "mixtral_probe/metrics/load/load_range.py": '''
"""Range of the load."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.load.balance import share


def load_range(counts: ArrayLike) -> NDArray[np.float64]:
    """Return max f - min f of counts [..., E], in [0, 1]."""
    f = share(counts)
    return f.max(-1) - f.min(-1)
''',
    "mixtral_probe/tables/load/load_range.py": '''
"""Range of the load of a layer: `load_range`."""

import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec


def load_range(stats: RoutingStats) -> pd.DataFrame:
    """Return the range of the load, per layer and group."""
    sums = GroupedSums.of(stats)
    found = sums.estimate(lambda sums: metrics.load_range(sums.counts), bounds=(0, 1))
    scope = f"one layer; {sums.tokens_scope}; max f - min f"
    return tidy([estimate_rows(sums.keys(), "toy_range", found, 0.0, sums.total.tokens, scope)], SPEC)


SPEC = TableSpec(
    function=load_range,
    source="stats",
    description="How far apart the most and the least used expert are.",
    keys=("layer", "group"),
    metrics={"toy_range": Metric("max f - min f, in [0, 1]; null 0", "range of the toy", ".1%", (0, 1), "toy even")},
    figures=(Drawing("load_range"),),
    narrows=True,
)
''',
    "mixtral_probe/figures/load/load_range.py": '''
"""Range of the load: `load_range`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle
from mixtral_probe.tables.registry import metric_of


def load_range(table: pd.DataFrame) -> go.Figure:
    """Draw the range of each layer."""
    rows, metric = rows_of(table, "toy_range"), metric_of("toy_range")
    bars = go.Bar(x=rows["layer"].astype(int), y=rows["estimate"], name=metric.label)
    return finish(go.Figure(bars), metric.label, subtitle(rows), height=400)
''',
    "app/app_pages/load_range.py": '''
"""Load range: how far apart the most and the least used expert are."""

from app.state import controls
from app.widgets import charts, frames, values

view = controls.view()
table = view.table("load_range")
values.cards(frames.rows(table, layer=view.layer, group=view.group), ("toy_range",))
charts.show(view.figure("load_range"), table, "load_range", "load_range")
''',
}
IMPORTS = {
    "mixtral_probe/metrics/__init__.py": "from mixtral_probe.metrics.load.load_range import load_range",
    "mixtral_probe/tables/__init__.py": "from mixtral_probe.tables.load.load_range import load_range",
    "mixtral_probe/figures/__init__.py": "from mixtral_probe.figures.load.load_range import load_range",
}
SCRIPT = """
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
import mixtral_probe as mp
from mixtral_probe.tables.docs import tables_page

trace, out = Path(sys.argv[1]), Path(sys.argv[2])
mp.write_report([trace], out / "report", html=True)
(out / "tables.md").write_text(tables_page())
entry = Path(mp.__file__).parents[1] / "app" / "streamlit_app.py"
sys.argv = [str(entry), str(trace)]
page = AppTest.from_file(str(entry), default_timeout=120).run().switch_page("app_pages/load_range.py").run()
assert not page.exception, page.exception
(out / "cards.txt").write_text("\\n".join(f"{card.label}: {card.value}" for card in page.metric))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What the copy with the new metric writes and shows of a trace whose loads are 3, 1 and 0 of 4."""
    place = tmp_path_factory.mktemp("copy")
    for room in ("mixtral_probe", "app"):
        shutil.copytree(ROOT / room, place / room, ignore=shutil.ignore_patterns("__pycache__", "_bundled"))
    (place / "data").symlink_to(ROOT / "data")
    for name, text in FILES.items():
        (place / name).write_text(text.lstrip())
    for name, line in IMPORTS.items():
        path = place / name
        path.write_text(f"{path.read_text()}\n{line}\n")
    trace = fixed_trace([[[0], [0], [0], [1]]], [[[9.0, 0, 0]] * 4], document=[0, 0, 0, 0])
    trace.save(place / "toy.trace")
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(place / "toy.trace"), str(place)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def test_a_new_metric_is_in_the_report(copy):
    [row] = pd.read_csv(copy / "report" / "load_range.csv").to_dict("records")
    assert (row["metric"], row["value"], row["n"]) == ("toy_range", 0.75, 4)
    page = (copy / "report" / "report.html").read_text()
    assert "How far apart the most and the least used expert are." in page
    assert "range of the toy" in page  # its figure


def test_a_new_metric_is_in_the_documentation(copy):
    page = (copy / "tables.md").read_text()
    assert "## load_range" in page
    assert "| `toy_range` | max f - min f, in [0, 1]; null 0 |" in page


def test_a_new_metric_is_in_the_dashboard(copy):
    assert "range of the toy: 75.0%" in (copy / "cards.txt").read_text()
