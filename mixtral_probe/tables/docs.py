"""The schema page docs/tables.md, generated from the SPECs: `python -m mixtral_probe.tables.docs > docs/tables.md`."""

from mixtral_probe.tables.registry import COMPARISONS, EXPERIMENTS, PARTS, TABLES
from mixtral_probe.tables.spec import TableSpec

_HEAD = """# Tables

Each table is a function of `mixtral_probe.tables`, a file of `mixtral-probe report`, and a pandas DataFrame sorted by
its keys. Tables from statistics (`RoutingStats`) are available for any number of merged traces; with `by="domain"`
they have rows for each group and for "all". Layers, experts, heads and positions count from 0. Shares are in [0, 1].
Letters: T tokens, L layers, E experts, K experts chosen per token; n_i how often expert i was chosen, f_i = n_i / (K T)
its share of all choices, P_i the mean over tokens of the softmax of the router logits over all experts.
Where some tokens choose fewer than K experts, losses keep f_i = n_i / (K T), of which their parts are exact sums, and
tables of load divide by the choices there are, f_i = n_i / (sum of n); a token counts in the layers in which it went to
an expert. Means over layers are weighted by the layers' tokens, and their n is that of the layer with the most.

Special tokens are left out unless the statistics include them (`include_special=True`). `value` is the published
formula over all documents. An interval is the delete-one-block jackknife over documents (95 %); it is about
`corrected`, the same formula less the bias that few documents give it, so `low <= corrected <= high` always, while
`value` may lie outside. Pages, figures and sentences show `corrected` wherever they show an interval. Where the
interval or the value is missing, `scope` says why. The interval treats documents as a random sample, of topics too;
only for metrics about the label itself are the groups' shares of the tokens fixed.
A selection (`where`) narrows every table except those that say so; `scope` contains its expression.
This page is generated from the SPEC at the end of each module of `mixtral_probe/tables/`.
"""


def tables_page() -> str:
    """Return docs/tables.md as text."""
    specs = (*TABLES.values(), *PARTS.values(), *COMPARISONS.values(), *EXPERIMENTS.values())
    return "\n".join([_HEAD, *(_section(spec) for spec in specs)])


_SOURCES = {
    "trace": "a trace",
    "stats": "statistics",
    "traces": "several traces of the same texts",
    "result": "the result of an experiment",
    "part": "a part of a trace that the arguments name, or from published data",
}
"""`TableSpec.source` in words."""


def _section(spec: TableSpec) -> str:
    about = f"{spec.description} From {_SOURCES[spec.source]}."
    if spec.source in ("trace", "stats") and not spec.narrows:
        about += " A selection does not narrow it."
    lines = [f"## {spec.name}", "", about, "", "| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in spec.columns.items()]
    if spec.metrics:
        lines += ["", "| metric | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(metric.meaning)} |" for name, metric in spec.metrics.items()]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(tables_page(), end="")
