"""Balance in its other published forms: `balance_variants`."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of, shared_scope, subtitle

VARIANTS = (
    "load_balancing_loss_gshard",
    "load_balancing_loss_sequence",
    "importance_cv_squared",
    "max_violation_batch",
    "inverse_simpson",
    "load_chi_squared",
)
"""The metrics drawn by default."""


@of_table
def balance_variants(table: pd.DataFrame, *, metrics: Sequence[str] = VARIANTS, group: str = "all") -> go.Figure:
    """Draw balance in its other published forms, layer by layer: each with its null and its own scope.

    Args:
        table: `tables.balance_variants`; its other groups are drawn as thin lines behind.
        metrics: some of its metrics, one panel each, if it has a value: some need weights or logits.
        group: the group drawn in full.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    metrics = [name for name in metrics if rows_of(table, name, group)["value"].notna().any()] or metrics
    figure, height = metric_panels(table, metrics, group, columns=3)
    rows = table[(table["metric"].isin(list(metrics)) & (table["group"] == group)).to_numpy(bool)]
    shared = shared_scope(rows)
    # A single panel has no title, and the subtitle says its scope.
    for title, metric in zip(figure.layout.annotations, metrics, strict=False):
        rest = [part for part in shared_scope(rows_of(rows, metric)) if part not in shared and not _said_above(part)]
        title.text += f'<br><span style="font-size:10.5px">{label(" · ".join(rest))}</span>'
    figure.update_traces(showlegend=False)  # what the lines are differs by panel
    more = "dotted: uniform routing, for losses independent routing; dashed: balanced losses"
    about = subtitle(rows, " · ".join(filter(None, [others_behind(table, group), more, *_few(rows)])))
    return finish(figure, "Balance in other published forms", about, height=height)


def _few(rows: pd.DataFrame) -> list[str]:
    """Return the parts of the scopes of rows that say that there are too few documents for intervals."""
    return sorted({part for scope in rows["scope"] for part in str(scope).split("; ") if "no interval below" in part})


def _said_above(part: str) -> bool:
    """Return whether the subtitle or a tooltip says a part of a scope, for which a panel has no room."""
    return part.startswith(("null: ", "95 % interval", "t ")) or "no interval below" in part
