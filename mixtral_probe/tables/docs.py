"""The schema page docs/tables.md, made from the registry: `python -m mixtral_probe.tables.docs > docs/tables.md`."""

from mixtral_probe.tables.comparisons import COMPARISONS
from mixtral_probe.tables.experiments import EXPERIMENTS
from mixtral_probe.tables.registry import TABLES
from mixtral_probe.tables.spec import TableSpec

_HEAD = """# Tables

Each table is a function of `mixtral_probe.tables`, a file of `mixtral-probe report`, and a pandas DataFrame sorted by
its keys. Those made from statistics (`RoutingStats`) are available for any number of merged traces; with `by="domain"`
they have rows for each group and for "all". Layers, experts, heads and positions count from 0. Shares are in [0, 1].
Letters: T tokens, L layers, E experts, K experts chosen per token; n_i how often expert i was chosen,
f_i = n_i / (K T), P_i the mean over tokens of the softmax of the router logits over all experts.

Special tokens are left out unless the statistics were made with `include_special=True`. An interval is the
bias-corrected delete-one-block jackknife over documents; where there is none, or no value, `scope` says why. It takes
documents as drawn at random, topics and all; only for what the label itself tells are the groups' shares of the tokens
taken as given.
This page is generated from `mixtral_probe/tables/registry.py`.
"""


def tables_page() -> str:
    """docs/tables.md as text."""
    specs = (*TABLES.values(), *COMPARISONS.values(), *EXPERIMENTS.values())
    return "\n".join([_HEAD, *(_section(spec) for spec in specs)])


_SOURCES = {
    "trace": "a trace",
    "stats": "statistics",
    "traces": "several traces of the same texts",
    "result": "the result of an experiment",
}
"""What `TableSpec.source` is called."""


def _section(spec: TableSpec) -> str:
    about = f"{spec.description} From {_SOURCES[spec.source]}."
    lines = [f"## {spec.name}", "", about, "", "| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in spec.columns.items()]
    if spec.metrics:
        lines += ["", "| metric | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in spec.metrics.items()]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(tables_page(), end="")
