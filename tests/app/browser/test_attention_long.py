"""The page about attention on 2,048 tokens, in a real browser: pooled as a whole, every weight in a part."""

import io

import numpy as np
from PIL import Image

from tests.support.attention_traces import attentive_trace
from tests.support.browser import dashboard, needs_chromium, settled

pytestmark = needs_chromium
TOKENS = 2_048
LIMIT = 2_000_000
"""Bytes that a message may take on its way to the browser."""


def test_a_long_window_is_pooled_and_its_part_is_a_picture_with_a_dot_for_every_weight(page, tmp_path):
    trace = attentive_trace(layers=1, heads=1, documents=1, length=TOKENS)
    with dashboard(tmp_path, trace.save(tmp_path / "long.trace")) as address:
        page.set_viewport_size({"width": 1400, "height": 2400})
        sizes = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sizes.append(len(frame))))
        page.goto(f"{address}/attention")
        plot = page.locator(".st-key-attention_map_chart .nsewdrag").first
        plot.wait_for()
        settled(page)
        shape = "chart => String(chart.data[0].z.shape ?? [chart.data[0].z.length, chart.data[0].z[0].length])"
        side = page.locator(".st-key-attention_map_chart .js-plotly-plot").evaluate(shape)
        assert side.replace(" ", "") == "512,512"
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.6, steps=4)
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.75, steps=4)
        page.mouse.up()
        page.locator(".st-key-attention_part_chart .js-plotly-plot").wait_for()
        settled(page)
        page.locator(".st-key-attention_picture label").click()
        image = page.locator("[data-testid=stImage] img").first
        image.wait_for()
        settled(page)
        answer = page.context.request.get(image.evaluate("image => image.src"))
        picture = np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))
        caption = page.locator("[data-testid=stImageCaption]").inner_text()
        assert 30_000 < max(sizes) < LIMIT
    queries, keys = ([int(number) for number in part.split(maxsplit=1)[1].split(" – ")] for part in caption.split(", "))
    assert 450 < queries[1] - queries[0] < 600
    assert 450 < keys[1] - keys[0] < 600
    assert picture.shape == (queries[1] - queries[0] + 1, keys[1] - keys[0] + 1, 3)
