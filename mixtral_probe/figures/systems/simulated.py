"""What the figures of simulations share: rows of one layer or of all, and their title."""

import pandas as pd

from mixtral_probe.figures.words import rows_of


def of_layer(rows: pd.DataFrame, layer: int | None) -> pd.DataFrame:
    """Return the rows of one layer, or those about all together.

    Raises:
        InputError: there is no such layer.
    """
    if layer is None:
        return rows[rows["layer"].isna().to_numpy(bool)]
    return rows_of(rows, str(rows["metric"].iloc[0]), layer=layer)


def layer_name(layer: int | None) -> str:
    """Return what a title calls one layer or all."""
    return "all layers" if layer is None else f"layer {layer}"
