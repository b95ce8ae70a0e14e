"""Pictures of a report: a folder of all of them or none; drawn by kaleido where it is installed."""

import importlib.util
from pathlib import Path

import plotly.io as pio
import pytest

from mixtral_probe.errors import InputError
from mixtral_probe.report import images, write_images
from mixtral_probe.report.drawings import draw
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import TABLES
from tests.support.routing import random_trace

INSTALLED = importlib.util.find_spec("kaleido") is not None


def drawn(monkeypatch, most=None):
    """Pretend that kaleido is installed and writes a few bytes, or fails after so many pictures."""
    made = []

    def write(figures, files, **size):
        assert len(figures) == len(files) == len(size["height"])
        for file in files:
            if len(made) == most:
                raise RuntimeError("the browser went away")
            made.append(Path(file).name)
            Path(file).write_bytes(b"png")

    monkeypatch.setattr(images, "find_spec", lambda name: object())
    monkeypatch.setattr(pio, "write_images", write)
    return made


def test_every_figure_of_the_report_is_a_picture(monkeypatch, tmp_path):
    trace = random_trace()
    made = drawn(monkeypatch)
    files = write_images([trace], tmp_path / "pictures")
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(made)
    assert [path.name for path in files] == made
    stats = RoutingStats.from_trace(trace, by="domain")
    figures = [
        figure
        for spec in TABLES.values()
        if not spec.per_token
        for figure in draw(spec, spec.function(trace if spec.source == "trace" else stats))
    ]
    assert len(files) == len(figures) > 10


def test_a_drawing_that_fails_leaves_nothing(monkeypatch, tmp_path):
    drawn(monkeypatch, most=3)
    with pytest.raises(RuntimeError, match="went away"):
        write_images([random_trace()], tmp_path / "pictures")
    assert list(tmp_path.iterdir()) == []


def test_pictures_go_into_a_new_folder(monkeypatch, tmp_path):
    drawn(monkeypatch)
    (tmp_path / "kept").mkdir()
    with pytest.raises(InputError, match=r"written into a new folder, got .*kept, which exists"):
        write_images([random_trace()], tmp_path / "kept")


@pytest.mark.skipif(not INSTALLED, reason="kaleido, which draws pictures, is not installed")
def test_kaleido_draws_them(tmp_path):
    files = write_images([random_trace(layers=1)], tmp_path / "pictures")
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in files)
