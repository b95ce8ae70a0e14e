"""What a notebook shows: every token as itself, every number that of the trace, with and without a kernel."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixtral_probe as mp
from mixtral_probe import figures, notebook
from tests.support.app_traces import HOSTILE, bare_trace, routed_trace

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of those of one class."""

    def __init__(self, html, tag):
        super().__init__()
        self.tag, self.found, self.depth = tag, [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if self.depth:
            self.depth += tag not in ("br", "wbr")
        elif tag == self.tag:
            self.depth = 1
            self.found.append([dict(attrs), ""])

    def handle_endtag(self, tag):
        self.depth = max(0, self.depth - 1)

    def handle_data(self, data):
        if self.depth:
            self.found[-1][1] += data


def tokens(html):
    return [element for element in Page(html, "span").found if "token" in element[0].get("class", "")]


def style(attributes):
    return dict(part.split(":") for part in attributes["style"].split(";") if part)


def test_every_token_of_a_static_face_shows_as_itself():
    html = routed_trace(documents=1, length=10)._repr_html_()
    assert "<script" not in html
    shown = [text for _, text in tokens(html)]
    assert shown[: len(HOSTILE)] == [HOSTILE[0], "⏎", "␣the", "⟨U+202E⟩abc", *HOSTILE[4:]]


def test_a_static_face_has_the_colour_weight_and_hover_of_every_layer():
    trace = routed_trace(documents=2, length=30)
    colors = figures.expert_colors(4)
    found = tokens(trace._repr_html_())
    assert len(found) == 30
    for row, (attributes, _) in enumerate(found):
        for layer in range(3):
            expert, weight = trace.expert_ids[layer, row, 0], trace.expert_weights[layer, row, 0]
            assert style(attributes)[f"--c{layer}"] == colors[expert]
            assert style(attributes)[f"--s{layer}"] == f"{0.1 + 0.45 * weight:.0%}"
            assert (
                f"layer {layer}: position {row}; choice 1 expert {expert} · weight {weight:.3f}" in attributes["title"]
            )


def test_the_picture_of_a_face_is_the_load():
    trace = routed_trace()
    counted = (trace.expert_ids[..., None] == np.arange(4)).sum((1, 2)) / trace.expert_ids[0].size
    cells = [text for _, text in Page(trace._repr_html_(), "rect").found]
    assert len(cells) == 12
    for number, cell in enumerate(cells):
        layer, expert = divmod(number, 4)
        assert cell.startswith(f"layer {layer}, expert {expert}: {counted[layer, expert]:.1%} (95 % interval")


def test_a_trace_of_nothing_but_ids_and_one_without_tokens_have_faces():
    assert "⟨id␣-1⟩" in bare_trace()._repr_html_()
    empty = mp.Trace.from_arrays(expert_ids=np.zeros((2, 0, 1), np.int16), num_experts=4, documents=[{"id": "a"}])
    assert "0 tokens" in empty._repr_html_()


def test_a_long_trace_without_statistics_is_not_counted(monkeypatch, tmp_path):
    monkeypatch.setattr("mixtral_probe.notebook.display.COUNTED", 100)
    trace = routed_trace()
    assert "RoutingStats.from_trace" in trace._repr_html_()
    saved = mp.Trace.load(trace.save(tmp_path / "a.trace"))
    assert "<svg" not in saved._repr_html_()
    mp.RoutingStats.from_trace(saved, by="domain").save(saved.path / "stats.safetensors")
    assert "<svg" in saved._repr_html_()


def test_the_face_of_statistics():
    stats = mp.RoutingStats.from_trace(routed_trace(), by="domain")
    html = stats._repr_html_()
    assert "240 tokens" in html
    assert "code, prose" in html
    assert "The most used expert is expert" in html
    assert len(repr(stats)) < 400


def test_the_face_of_a_result():
    arrays = {"distance": np.arange(6.0).reshape(2, 3), "loss": np.array(1.25), "long": np.zeros(5000)}
    keys = {"distance": ("layer", "expert"), "loss": (), "long": ("token",)}
    html = mp.Result("<b>", arrays, keys, {"expert": ("<i>", "b", "c")})._repr_html_()
    assert "<i>" not in html
    assert [text for _, text in Page(html, "rect").found][-1] == "1 · c: 5"
    assert "token 5000" in html
    assert "1.25" in html


def test_the_face_of_a_table_says_what_it_is_and_holds_half_characters():
    ids = np.zeros((1, 2, 1), np.int16)
    trace = mp.Trace.from_arrays(expert_ids=ids, num_experts=2, piece=["\ud800", "<script>"], token_ids=[0, 1])
    bundle = notebook.table_bundle(mp.tables.routes(trace))
    assert "<script" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]
    assert "Which experts each token went to, special tokens too" in bundle["text/html"]
    "".join(bundle.values()).encode("utf-8")


def test_a_part_of_a_table_is_known_and_another_frame_is_not():
    balance = mp.tables.balance(mp.RoutingStats.from_trace(routed_trace()))
    bundle = notebook.table_bundle(balance[balance["metric"] == "gini"])
    assert "metric gini" in bundle["text/html"]
    assert "metric cv_squared" not in bundle["text/html"]
    assert "3 rows" in bundle["text/html"]
    assert notebook.table_bundle(pd.DataFrame({"layer": [0]})) is None


def test_the_widget_holds_the_logits_of_the_chosen_layer_and_document():
    trace = routed_trace(documents=3, length=500)
    strip = notebook.TokenStrip(trace)
    strip.document, strip.layer, strip.page, strip.rank = 2, 1, 1, 1
    assert (strip.pages, strip.documents) == (2, ["text-0", "text-1", "text-2"])
    assert [token["row"] for token in strip.data["tokens"]] == list(range(400, 500))
    for token in strip.data["tokens"][:20]:
        row = 1000 + token["row"]
        assert [bar["text"] for bar in token["bars"]] == [f"{z:.3f}" for z in trace.router_logits[1, row]]
        assert token["color"] == figures.expert_colors(4)[trace.expert_ids[1, row, 1]]


@pytest.mark.parametrize(
    ("trace", "options", "sentence"),
    [
        (routed_trace(), {"layer": 7}, "layer must be in 0–2, got 7"),
        (routed_trace(), {"document": 9}, "document must be in 0–3, got 9"),
        (routed_trace().select([]), {}, "a token strip needs at least one token, got a trace without any"),
    ],
)
def test_what_a_widget_cannot_show(trace, options, sentence):
    with pytest.raises(mp.InputError, match=sentence):
        notebook.TokenStrip(trace, **options)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_the_extra_only_the_widget_is_missing():
    code = (
        "import sys; sys.modules['anywidget'] = None; import mixtral_probe as mp\n"
        "try: mp.notebook.TokenStrip\nexcept mp.InputError as error: print(error)"
    )
    assert "which is not installed; pip install 'mixtral-probe[notebook]'" in run(code)


def test_the_package_costs_a_notebook_nothing_until_it_shows_something():
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance(); shell.kernel = None\n"
        "import mixtral_probe; made = shell.display_formatter\n"
        "print([name for name in ('torch', 'plotly', 'pandas', 'anywidget') if name in sys.modules])\n"
        "print(*made.mimebundle_formatter.deferred_printers, *made.ipython_display_formatter.deferred_printers)"
    )
    heavy, registered = run(code).splitlines()
    assert heavy == "[]"
    assert all(name in registered for name in ("'DataFrame'", "'Trace'", "'Figure'"))


def test_the_package_alone_loads_no_notebook():
    assert run("import sys, mixtral_probe; mixtral_probe.Trace; print('IPython' in sys.modules)") == "False"
