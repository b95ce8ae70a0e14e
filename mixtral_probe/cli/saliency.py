"""`mixtral-probe saliency`: how much each expert adds to its tokens."""

from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.progress import run_or_stop
from mixtral_probe.cli.shell import print_json

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.trace import Result

PROMOTED_SHOWN = 5


def saliency(
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.Corpus = None,
    window: options.Window = None,
    device: options.Device = "cpu",
    dtype: options.DType = None,
    out: options.ResultOut = None,
    csv: options.Csv = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure how much each expert adds to its tokens, which are super experts, and which tokens they promote.

    \b
    Examples:
      mixtral-probe saliency --file novel.txt
      mixtral-probe saliency --corpus bundled --csv saliency.csv
      mixtral-probe saliency --text "def add(a, b): return a + b" --json
    """
    source = chosen_source(text, file, corpus)
    probe = opened_probe(model, device, dtype)
    result = run_or_stop(probe.saliency, kept="nothing was written", source=source, window=window)
    from mixtral_probe.tables import saliency as saliency_table
    from mixtral_probe.tables import write_csv

    table = saliency_table(result)
    if out is not None:
        typer.echo(f"wrote {result.save(out.expanduser())}", err=as_json)
    if csv is not None:
        typer.echo(f"wrote {write_csv(table, csv.expanduser())}", err=as_json)
    if as_json:
        print_json(_facts(result, table))
    else:
        typer.echo("\n".join(_lines(result, table)))


def _over_all(table: "pd.DataFrame") -> "pd.DataFrame":
    own = table[table["group"] == "all"]
    return own.pivot(index=["layer", "expert"], columns="metric", values="value")


def _facts(result: "Result", table: "pd.DataFrame") -> dict[str, Any]:
    wide = _over_all(table).reset_index()
    return {
        "model": result.meta["model"]["name"],
        "documents": len(result.axis("document")),
        "super_experts": [list(map(int, place)) for place in zip(*result["super_experts"].nonzero(), strict=True)],
        "experts": wide.astype(object).where(wide.notna(), None).to_dict("records"),
    }


def _lines(result: "Result", table: "pd.DataFrame") -> list[str]:
    from mixtral_probe.tables import promoted_tokens

    raised = promoted_tokens(result).groupby(["layer", "expert"])["token"]
    promoted = {place: list(tokens)[:PROMOTED_SHOWN] for place, tokens in raised}
    lines = [f"{'layer':>5} {'expert':>6} {'tokens':>7} {'EAN':>9} {'REAP':>9} {'largest':>9}  promotes"]
    for place, row in _over_all(table).iterrows():
        shown = " ".join(repr(token) for token in promoted.get(place, []))
        numbers = f"{row['activation_norm']:9.3g} {row['reap']:9.3g} {row['largest_output']:9.3g}"
        mark = " super expert" if row["super_expert"] else ""
        lines.append(f"{place[0]:5} {place[1]:6} {row['selection_frequency']:7.1%} {numbers}  {shown}{mark}")
    found = int(result["super_experts"].sum())
    return [*lines, f"{words.counted(found, 'super expert')} among {words.counted(result['largest'].size, 'expert')}"]
