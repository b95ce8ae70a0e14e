"""Which experts a token chooses together: `coactivation`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import PAIRS, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of


@of_table
def coactivation(
    table: pd.DataFrame, *, metric: str = "coactivation_preference", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """Draw expert × expert: which experts a token chooses together, a panel per layer.

    A navigator like `expert_load_map`: customdata [expert, other_expert].

    Args:
        table: `tables.coactivation`.
        metric: one of its metrics; the first is coloured by its distance from no preference.
        layer: one layer; None for all.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    rows = rows_of(table, metric, group, layer=layer)
    return cell_map(rows, metric, PAIRS, "Experts chosen together", centred=metric == "coactivation_preference")
