"""`mixtral-probe saliency`: how much each expert adds to its tokens."""

from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.outputs import estimate_line, present, records, saved
from mixtral_probe.cli.progress import run_or_stop
from mixtral_probe.cli.reserved import reserves

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.trace import SaliencyResult

PROMOTED_SHOWN = 5


@reserves("result")
def saliency(
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.CorpusPath = None,
    window: options.WindowTokens = None,
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
    planned = probe.plan(source, window=window)
    typer.echo(estimate_line(probe.estimate_saliency(planned)), err=True)
    result = run_or_stop(probe.saliency, kept="nothing was written", source=planned)
    present(result, [saved(result, out)], csv=csv, as_json=as_json, facts=_facts, lines=_lines)


def _over_all(table: "pd.DataFrame") -> "pd.DataFrame":
    over_all = table[table["group"] == "all"]
    return over_all.pivot(index=["layer", "expert"], columns="metric", values="value")


def _facts(result: "SaliencyResult", table: "pd.DataFrame") -> dict[str, Any]:
    return {
        "model": result.meta["model"]["name"],
        "documents": len(result.axis("document")),
        "super_experts": [list(map(int, place)) for place in zip(*result.super_experts.nonzero(), strict=True)],
        "experts": records(_over_all(table).reset_index()),
    }


def _lines(result: "SaliencyResult", table: "pd.DataFrame") -> list[str]:
    from mixtral_probe.tables import promoted_tokens

    raised = promoted_tokens(result).groupby(["layer", "expert"])["token"]
    promoted = {place: list(tokens)[:PROMOTED_SHOWN] for place, tokens in raised}
    lines = [f"{'layer':>5} {'expert':>6} {'tokens':>7} {'EAN':>9} {'REAP':>9} {'largest':>9}  promotes"]
    for place, row in _over_all(table).iterrows():
        tokens = " ".join(repr(token) for token in promoted.get(place, []))
        numbers = f"{row['activation_norm']:9.3g} {row['reap']:9.3g} {row['largest_output']:9.3g}"
        mark = " super expert" if row["super_expert"] else ""
        lines.append(f"{place[0]:5} {place[1]:6} {row['selection_frequency']:7.1%} {numbers}  {tokens}{mark}")
    count = int(result.super_experts.sum())
    return [*lines, f"{words.counted(count, 'super expert')} among {words.counted(result.largest.size, 'expert')}"]
