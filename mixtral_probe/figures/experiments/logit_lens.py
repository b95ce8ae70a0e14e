"""How each layer's prediction compares with the model's own: `logit_lens`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import metric_panels
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import subtitle

LENS = ("lens_divergence_bits", "lens_agreement", "lens_next_token_bits", "lens_entropy_bits")
"""The metrics drawn."""


@of_table
def logit_lens(table: pd.DataFrame) -> go.Figure:
    """Draw how each layer's prediction compares with the model's own, which is the dotted line.

    Args:
        table: `tables.logit_lens`.

    Raises:
        InputError: it is empty.
    """
    figure, height = metric_panels(table, LENS, "all", columns=2)
    return finish(figure, "Predictions by layer", subtitle(table[table["metric"].isin(LENS)]), height=height)
