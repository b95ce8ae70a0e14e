"""What edits do, as `Probe.what_if` finds it."""

import pandas as pd

from mixtral_probe import Probe, edits


def edited_totals(probe: Probe, text: str, *typed: str) -> pd.DataFrame:
    """The metrics of the edited run over all layers, by name."""
    table = probe.what_if([text], [edits.parse(one) for one in typed]).table()
    whole = table[table[["layer", "expert", "document"]].isna().all(axis=1) & (table["run"] == "edited")]
    return whole.set_index("metric")
