"""`mixtral-probe ablate`: what is lost without each expert."""

from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.progress import run_or_stop
from mixtral_probe.cli.shell import print_json
from mixtral_probe.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.trace import Result

SHOWN = 10
"""Experts listed on a terminal, those that are missed most first."""


def ablate(
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.Corpus = None,
    semantics: options.Semantics = "mask",
    layers: options.AblatedLayers = None,
    experts: options.AblatedExperts = None,
    placebo: options.Placebo = True,
    seed: options.PlaceboSeed = 0,
    window: options.Window = None,
    device: options.Device = "cpu",
    dtype: options.DType = None,
    out: options.ResultOut = None,
    csv: options.Csv = None,
    as_json: options.AsJson = False,
) -> None:
    """Take away every expert, one at a time, and measure how much worse each text is predicted, beside a placebo.

    With --out, Ctrl-C stops between runs and the same command continues where it stopped.

    \b
    Examples:
      mixtral-probe ablate --file novel.txt
      mixtral-probe ablate --corpus bundled --semantics zero --layers 3,4 --out zeroed.result
      mixtral-probe ablate --text "def add(a, b): return a + b" --layers 0 --experts 5 --json
    """
    source = chosen_source(text, file, corpus)
    how: dict[str, Any] = {
        "semantics": semantics, "layers": _numbers(layers, "--layers"), "experts": _numbers(experts, "--experts"),
        "placebo": placebo, "seed": seed, "window": window, "path": out and out.expanduser(),
    }  # fmt: skip
    kept = "nothing is kept without --out" if out is None else f"the same command continues from {out}.parts"
    result = run_or_stop(opened_probe(model, device, dtype).ablation, kept=kept, source=source, **how)
    from mixtral_probe.tables import ablation, write_csv

    table = ablation(result)
    if csv is not None:
        typer.echo(f"wrote {write_csv(table, csv.expanduser())}", err=as_json)
    if out is not None:
        typer.echo(f"wrote {out}", err=as_json)
    if as_json:
        print_json(_facts(result, table))
    else:
        typer.echo("\n".join(_lines(result, table)))


def _numbers(text: str | None, option: str) -> list[int] | None:
    """ "0,3" or "2-5" as numbers; None for all."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"{option} must be numbers such as 0,3 or 2-5, but {text!r} came")
        numbers += range(int(first), int(last if dash else first) + 1)
    return numbers


def _facts(result: "Result", table: "pd.DataFrame") -> dict[str, Any]:
    over = table[table["group"] == "all"].drop(columns=["group", "scope"])
    rows = over.astype(object).where(over.notna(), None)
    return {
        "model": result.meta["model"]["name"],
        "semantics": result.meta["semantics"],
        "placebo": result.meta["placebo"],
        "documents": len(result.axis("document")),
        "tokens": int(result["tokens"].sum()),
        "loss": float(result["nll"].sum() / result["tokens"].sum()),
        "rows": rows.to_dict("records"),
    }


def _lines(result: "Result", table: "pd.DataFrame") -> list[str]:
    own = table[(table["group"] == "all") & (table["metric"] == "loss_increase")]
    most = own.sort_values("value", ascending=False, kind="stable")
    tokens = int(result["tokens"].sum())
    lines = [
        f"{words.counted(tokens, 'token')} of {words.counted(len(result.axis('document')), 'document')}; "
        f"loss {result['nll'].sum() / tokens:.4f} nats; without an expert ({result.meta['semantics']}):",
        f"{'layer':>5} {'expert':>6} {'lost, nats':>11} {'95 % interval':>21} {'placebo':>10}",
    ]
    for row in most.head(SHOWN).itertuples():
        interval = "–" if row.low != row.low else f"{row.low:.4f} – {row.high:.4f}"
        placebo = "–" if row.null != row.null else f"{row.null:.4f}"
        lines.append(f"{row.layer:5} {row.expert:6} {row.value:11.4f} {interval:>21} {placebo:>10}")
    return lines if len(most) <= SHOWN else [*lines, f"and {len(most) - SHOWN} more; --csv has all"]
