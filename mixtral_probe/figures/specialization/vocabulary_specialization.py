"""How far token types keep to one expert: `vocabulary_specialization`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import subtitle

_ESTIMATORS = ("vocabulary_specialization", "vocabulary_specialization_crossval")


@of_table
def vocabulary_specialization(
    table: pd.DataFrame, *, target: str = "input", min_count: int = 1, weighting: str = "type", group: str = "all"
) -> go.Figure:
    """Draw how far token types keep to one expert, layer by layer: plug-in and cross-validated, with their nulls.

    Args:
        table: `tables.vocabulary_specialization`.
        target: "input", "predicted" or "next".
        min_count: least number of tokens of a type.
        weighting: "type" or "token".
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks one of them.
    """
    whole = table[table["expert"].isna().to_numpy(dtype=bool)]
    for name, choice in (("target", target), ("min_count", min_count), ("weighting", weighting)):
        known = ", ".join(map(str, whole[name].unique().tolist())) or "nothing"
        whole = whole[(whole[name] == choice).to_numpy(dtype=bool)]
        if whole.empty:
            raise InputError(f"{name} must be one the table has ({known}), got {choice!r}")
    figure, height = metric_panels(whole, _ESTIMATORS, group, columns=2)
    rows = whole[(whole["group"] == group).to_numpy(dtype=bool)]
    figure.update_yaxes(range=[0, 1.02])
    title = f"Vocabulary specialization: {target} token"
    return finish(figure, title, subtitle(rows, others_behind(whole, group)), height=height)
