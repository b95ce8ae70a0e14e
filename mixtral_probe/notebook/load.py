"""What the face of statistics shows: the load of every expert as a picture, and the findings in words."""

import numpy as np

from mixtral_probe.figures.words import words_of
from mixtral_probe.notebook.markup import heat_map, sentences, text
from mixtral_probe.report.headlines import headline
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import balance, expert_load


def summary(stats: RoutingStats) -> str:
    """A picture of expert load, layer by expert, and a sentence about the most telling rows."""
    load = expert_load(stats)
    shown = load[((load["metric"] == "share") & (load["group"] == "all")).to_numpy(dtype=bool)]
    size = (len(stats.layers), stats.num_experts)
    words, value = words_of("share"), shown["value"].to_numpy(float).reshape(size)
    hover = [
        f"layer {layer}, expert {expert}: {words.text(share)} (95 % interval {words.text(low)} to {words.text(high)})"
        for layer, expert, share, low, high in shown[["layer", "expert", "value", "low", "high"]].itertuples(
            index=False
        )
    ]
    picture = heat_map(
        value, stats.layers, range(size[1]), np.array(hover, dtype=object).reshape(size), axes=("layer", "expert")
    )
    said = sentences([headline("expert_load", load), headline("balance", balance(stats))])
    title = f"Share of assignments of each expert; {words.null} is {words.text(1 / size[1])}."
    return f"<p>{text(title)}</p>\n{picture}\n{said}"
