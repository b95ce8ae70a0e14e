"""`mixtral-probe ablate`: the loss without each expert."""

from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.outputs import PLACEBO_HEAD, estimate_line, interval, placebo_columns, present, records
from mixtral_probe.cli.progress import run_or_stop
from mixtral_probe.cli.reserved import reserves
from mixtral_probe.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.trace import AblationResult

SHOWN = 10
"""Experts listed on a terminal, the largest loss first."""


@reserves("result")
def ablate(
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.CorpusPath = None,
    semantics: options.Semantics = "mask",
    layers: options.AblatedLayers = None,
    experts: options.AblatedExperts = None,
    placebos: options.Placebos = 7,
    seed: options.PlaceboSeed = 0,
    window: options.WindowTokens = None,
    device: options.Device = "cpu",
    dtype: options.DType = None,
    out: options.ResultOut = None,
    csv: options.Csv = None,
    as_json: options.AsJson = False,
) -> None:
    """Ablate every expert, one at a time, and measure the loss of each text, compared with a placebo.

    With --out, Ctrl-C stops between runs and the same command continues where it stopped.

    \b
    Examples:
      mixtral-probe ablate --file novel.txt
      mixtral-probe ablate --corpus bundled --semantics zero --layers 3,4 --out zeroed.result
      mixtral-probe ablate --text "def add(a, b): return a + b" --layers 0 --experts 5 --json
    """
    probe = opened_probe(model, device, dtype)
    planned = probe.plan(chosen_source(text, file, corpus), window=window)
    how: dict[str, Any] = {
        "source": planned, "layers": _numbers(layers, "--layers"), "experts": _numbers(experts, "--experts"),
        "placebos": placebos,
    }  # fmt: skip
    typer.echo(estimate_line(probe.estimate_ablation(**how), placebos=placebos), err=True)
    how |= {"semantics": semantics, "seed": seed, "path": out and out.expanduser()}
    kept = "nothing is kept without --out" if out is None else f"the same command continues from {out}.parts"
    result = run_or_stop(probe.ablation, kept=kept, **how)
    present(result, [out], csv=csv, as_json=as_json, facts=_facts, lines=_lines)


def _numbers(text: str | None, option: str) -> list[int] | None:
    """ "0,3" or "2-5" as numbers; None for all."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"{option} must be numbers such as 0,3 or 2-5, got {text!r}")
        numbers += range(int(first), int(last if dash else first) + 1)
    return numbers


def _facts(result: "AblationResult", table: "pd.DataFrame") -> dict[str, Any]:
    over_all = table[table["group"] == "all"].drop(columns=["group", "scope"])
    return {
        "model": result.meta["model"]["name"],
        "semantics": result.semantics,
        "placebos": len(result.placebo_draws),
        "documents": len(result.axis("document")),
        "tokens": int(result.tokens.sum()),
        "loss": float(result.nll.sum() / result.tokens.sum()),
        "rows": records(over_all),
    }


def _lines(result: "AblationResult", table: "pd.DataFrame") -> list[str]:
    from mixtral_probe.tables.registry import estimates

    whole = table[table["group"] == "all"].assign(estimate=estimates(table)).set_index(["layer", "expert"])
    by_metric = dict(list(whole.groupby("metric")))
    most = by_metric["loss_increase"].sort_values("estimate", ascending=False, kind="stable")
    tokens, draws = int(result.tokens.sum()), len(result.placebo_draws)
    lines = [
        f"{words.counted(tokens, 'token')} of {words.counted(len(result.axis('document')), 'document')}; "
        f"loss {result.nll.sum() / tokens:.4f} nats; without an expert ({result.semantics}):",
        *([f"placebo: {words.draws(draws)}; FDR over the {len(most)} experts"] if draws else []),
        f"{'layer':>5} {'expert':>6} {'lost, nats':>11} {'95 % interval':>21} {PLACEBO_HEAD} {'FDR':>8} {'rank':>10}",
    ]
    for key, row in most.head(SHOWN).iterrows():
        numbers = f"{row['estimate']:11.4f} {interval(row['low'], row['high']):>21} {placebo_columns(row)}"
        lines.append(f"{key[0]:5} {key[1]:6} {numbers} {_rate(by_metric, key):>8} {_rank(by_metric, key):>10}")
    return lines if len(most) <= SHOWN else [*lines, f"and {len(most) - SHOWN} more; --csv has all"]


def _rate(by_metric: dict[str, "pd.DataFrame"], key: Any) -> str:
    rates = by_metric.get("loss_increase_false_discovery")
    return "–" if rates is None or rates.loc[key, "n"] == 0 else f"{rates.loc[key, 'value']:.2g}"


def _rank(by_metric: dict[str, "pd.DataFrame"], key: Any) -> str:
    """The rank with its interval, where it has one."""
    row = by_metric["loss_increase_rank"].loc[key]
    interval = "" if row["low"] != row["low"] else f" ({row['low']:.0f}–{row['high']:.0f})"
    return f"{row['estimate']:.0f}{interval}"
