"""`mixtral-probe compare`: how far two traces of the same texts agree, and which experts gained and lost."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options
from mixtral_probe.cli.outputs import records
from mixtral_probe.cli.shell import print_json
from mixtral_probe.cli.words import counted

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.trace import Trace

_LAYER_METRICS = ("set_overlap", "first_agreement", "same_set")
MOST_MOVED = 12


def compare(first: options.FirstTrace, second: options.SecondTrace, as_json: options.AsJson = False) -> None:
    """Compare two traces of the same texts token by token: another model, a later step of training, another precision.

    For each layer: the experts in common, the same first choices, the same sets; over all layers: the tokens that
    differ anywhere; and the experts that gained and lost. Intervals leave out documents from both traces at once.

    \b
    Examples:
      mixtral-probe compare before.trace after.trace
      mixtral-probe compare float32.trace bfloat16.trace --json
    """
    facts = comparison(first.expanduser(), second.expanduser())
    if as_json:
        print_json(facts)
        return
    for line in _lines(facts):
        typer.echo(line)


def comparison(first: Path, second: Path) -> dict[str, Any]:
    """Return what `compare` prints, ready for JSON: every number with interval, null and n.

    Raises:
        InputError: one is no trace, or they are of different texts or of models of different shape.
    """
    from mixtral_probe.tables import agreement
    from mixtral_probe.tables.registry import estimate
    from mixtral_probe.trace import Trace

    a, b = Trace.load(first), Trace.load(second)
    by = "domain" if "domain" in a.labels else None
    table = agreement(a, b, by=by)
    of_all = table[(table["group"] == "all").to_numpy(dtype=bool)]
    layers = of_all[of_all["layer"].notna() & of_all["expert"].isna()]
    changes = _records(table[table["expert"].notna()].drop(columns="metric"))
    return {
        "first": _about(a, first),
        "second": _about(b, second),
        "documents": a.num_documents,
        "tokens": int(of_all["n"].max()),
        "scope": "special tokens out",
        "by": by,
        "layers": [
            {"layer": int(layer), **_metrics(layers[(layers["layer"] == layer).to_numpy(dtype=bool)])}
            for layer in layers["layer"].unique()
        ],
        "groups": [{"group": group, **_metrics(_of_group(table, group))} for group in dict.fromkeys(table["group"])],
        "experts": sorted(changes, key=lambda row: -abs(estimate(row) or 0)),
    }


def _about(trace: "Trace", path: Path) -> dict[str, Any]:
    return {"path": str(path), "model": trace.meta.model, "dtype": trace.meta.dtype}


def _of_group(table: "pd.DataFrame", group: str) -> "pd.DataFrame":
    return table[((table["group"] == group) & table["layer"].isna()).to_numpy(dtype=bool)]


def _metrics(rows: "pd.DataFrame") -> dict[str, dict[str, Any]]:
    """Return the numbers of some rows by metric."""
    names = ("value", "corrected", "low", "high", "null", "n")
    return {row["metric"]: {name: row[name] for name in names} for row in _records(rows)}


def _records(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return rows as dictionaries of plain values; what is missing is None, which JSON has."""
    return records(rows.drop(columns="scope"))


def _lines(facts: dict[str, Any]) -> list[str]:
    groups = {entry["group"]: entry["any_layer_differs"] for entry in facts["groups"]}
    return [
        *(f"{name:6}  {facts[name]['path']}{_model(facts[name])}" for name in ("first", "second")),
        f"{counted(facts['documents'], 'document')}, {counted(facts['tokens'], 'token')}, {facts['scope']}",
        "",
        f"tokens that differ in any layer: {_percent(groups.pop('all'))}",
        *(f"  {name:20} {_percent(entry, null=False)}" for name, entry in groups.items()),
        "",
        *_by_layer(facts["layers"]),
        "",
        *_moved(facts["experts"]),
    ]


def _model(about: dict[str, Any]) -> str:
    facts = [str(fact) for fact in (about["model"].get("name"), about["dtype"]) if fact]
    return f" ({', '.join(facts)})" if facts else ""


def _percent(entry: dict[str, Any], *, null: bool = True) -> str:
    """Write a share with its interval, and what chance gives."""
    from mixtral_probe.tables.registry import estimate

    if entry["value"] is None:
        return "not enough data (n = 0)"
    interval = "" if entry["low"] is None else f" ({entry['low']:.1%} to {entry['high']:.1%})"
    return f"{estimate(entry):.1%}{interval}" + (f", by chance {entry['null']:.1%}" if null else "")


def _by_layer(layers: list[dict[str, Any]]) -> list[str]:
    heads = ("experts in common", "same first choice", "same experts")
    lines = [f"{'layer':>6}  " + "  ".join(f"{head:26}" for head in heads)]
    for entry in layers:
        cells = (_percent(entry[name], null=False) for name in _LAYER_METRICS)
        lines.append(f"{entry['layer']:>6}  " + "  ".join(f"{cell:26}" for cell in cells))
    if layers:
        chance = (f"{layers[0][name]['null']:.1%}" for name in _LAYER_METRICS)
        lines.append("chance  " + "  ".join(f"{cell:26}" for cell in chance))
    return [line.rstrip() for line in lines]


def _moved(experts: list[dict[str, Any]]) -> list[str]:
    """Write the experts whose share moved most, of those whose interval leaves out 0."""
    from mixtral_probe.tables.registry import estimate

    moved = [row for row in experts if row["group"] == "all" and row["value"]]
    sure = [row for row in moved if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    if moved and all(row["low"] is None for row in moved):
        return ["changes of single experts have no interval: fewer than 5 documents"]
    if not sure:
        return ["no expert gained or lost more than documents differ by chance (95 %)"]
    lines = [f"change of an expert's share of its layer's assignments, points ({len(sure)} with an interval without 0)"]
    for row in sure[:MOST_MOVED]:
        change = "{:+.2f} ({:+.2f} to {:+.2f})".format(100 * estimate(row), 100 * row["low"], 100 * row["high"])
        lines.append(f"  layer {row['layer']} expert {row['expert']}: {change}")
    return lines
