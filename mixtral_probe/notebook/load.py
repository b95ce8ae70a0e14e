"""Statistics in a notebook: the load of every expert as a picture, and the findings in words."""

import numpy as np

from mixtral_probe.figures.words import rows_of
from mixtral_probe.notebook.markup import heat_map, sentences, text
from mixtral_probe.report.headlines import headline
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import balance, expert_load
from mixtral_probe.tables.registry import metric_of


def summary(stats: RoutingStats) -> str:
    """Return a picture of expert load, layer by expert, and a sentence about the most telling rows."""
    load = expert_load(stats)
    rows, share = rows_of(load, "share", "all"), metric_of("share")
    size = (len(stats.layers), stats.num_experts)
    columns = rows[["layer", "expert", "estimate", "low", "high"]].itertuples(index=False)
    hover = [
        f"layer {layer}, expert {expert}: {share.text(estimate)} "
        f"(95 % interval {share.text(low)} to {share.text(high)})"
        for layer, expert, estimate, low, high in columns
    ]
    hovers = np.array(hover, dtype=object).reshape(size)
    shares = rows["estimate"].to_numpy(float).reshape(size)
    picture = heat_map(shares, stats.layers, range(size[1]), hovers, axes=("layer", "expert"))
    findings = sentences([headline("expert_load", load), headline("balance", balance(stats))])
    title = f"Share of assignments of each expert; {share.null} is {share.text(1 / size[1])}."
    return f"<p>{text(title)}</p>\n{picture}\n{findings}"
