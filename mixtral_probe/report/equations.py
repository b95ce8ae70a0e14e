"""Exact relations between rows of tables, written out with their numbers."""

import pandas as pd

_DIGITS = range(4, 9)


def pooling_equation(loss: pd.DataFrame, parts: pd.DataFrame, *, group: str = "all") -> str:
    """Write what pooling the layers hides, such as `2.0005 / 2 = 1.0286 − 0.0283`; empty where the layers have no loss.

    As many digits are written as it takes for the two sides to agree in the last of them.

    Args:
        loss: from `tables.balance_loss`.
        parts: from `tables.balance_loss_breakdown`.
        group: of the documents.
    """
    whole = loss[(loss["layer"].isna() & (loss["group"] == group)).to_numpy(dtype=bool)].set_index("metric")
    hidden = parts[((parts["metric"] == "pooling_gap_layers") & (parts["group"] == group)).to_numpy(dtype=bool)]
    if hidden.empty or whole.empty:
        return ""
    pooled, mean = whole.loc["load_balancing_loss_pooled"], float(whole.loc["load_balancing_loss_mean", "value"])
    choices = float(pooled["balanced"])  # K, because the pooled loss is K at balance.
    per_choice, gap = float(pooled["value"]) / choices, float(hidden["value"].sum())
    digits = next((d for d in _DIGITS if _closes(mean, gap, per_choice, d)), _DIGITS[-1])
    return (
        f"{per_choice * choices:.{digits}f} / {choices:.0f} = {per_choice:.{digits}f} "
        f"= {mean:.{digits}f} − {gap:.{digits}f}".replace("− -", "+ ")
    )


def _closes(mean: float, gap: float, pooled: float, digits: int) -> bool:
    return round(round(mean, digits) - round(gap, digits), digits) == round(pooled, digits)
