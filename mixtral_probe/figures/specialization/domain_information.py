"""What the label of a document tells about the expert: `domain_information`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import variable_panels
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle


@of_table
def domain_information(table: pd.DataFrame, *, metric: str = "mutual_information_bits") -> go.Figure:
    """Draw the information of a document's label about the expert, layer by layer, and that of shuffled labels.

    Args:
        table: `tables.domain_information`.
        metric: one of its metrics.

    Raises:
        InputError: the table lacks the metric, or is empty because documents have no label.
    """
    rows = rows_of(table, metric)
    kinds = rows[["variable", "min_count"]].drop_duplicates().itertuples(index=False, name=None)
    parts = {_title(variable, least): _part(rows, variable, least) for variable, least in kinds}
    figure, height = variable_panels(parts, metric, "all", columns=3)
    return finish(figure, "What the domain tells about the expert", subtitle(rows), height=height)


def _part(rows: pd.DataFrame, variable: str, least: int | None) -> pd.DataFrame:
    mask = rows["variable"] == variable if pd.isna(least) else rows["min_count"] == least
    return rows[mask.fillna(False).to_numpy(dtype=bool)]


def _title(variable: str, least: int | None) -> str:
    if variable == "domain":
        return "the domain"
    which = "" if least == 1 else f", types met {least} times"
    return f"the domain, beyond the token{which}"
