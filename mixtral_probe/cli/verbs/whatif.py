"""`mixtral-probe whatif`: the effect of edits."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.outputs import PLACEBO_HEAD, estimate_line, interval, number, placebo_columns, records
from mixtral_probe.cli.progress import run_or_stop
from mixtral_probe.cli.reserved import reserves
from mixtral_probe.cli.shell import print_json
from mixtral_probe.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.instruments.edits import Edit
    from mixtral_probe.trace import WhatIf

SHOWN = {
    "loss_change": "loss, nats",
    "divergence_bits": "divergence, bits",
    "prediction_changed": "other best guess",
    "rerouted": "other experts",
    "continuation_kept": "continuation kept",
}
NEXT_SHOWN = 5


@reserves("what-if")
def whatif(
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.CorpusPath = None,
    edit: options.Edits = None,
    edits: options.EditsFile = None,
    placebos: options.Placebos = 39,
    seed: options.PlaceboSeed = 0,
    generate: options.WhatIfGenerate = None,
    window: options.WindowTokens = None,
    device: options.Device = "cpu",
    dtype: options.DType = None,
    out: options.WhatIfOut = None,
    as_json: options.AsJson = False,
) -> None:
    """Run text without and with changes of routing, experts or heads, and with draws of a placebo of the same size.

    \b
    Examples:
      mixtral-probe whatif --text "def add(a, b): return a + b" --edit "mask_expert expert=3 layer=2..4"
      mixtral-probe whatif --file novel.txt --edit "top_k experts=1" --generate 20
      mixtral-probe whatif --corpus bundled --edit "bias_router layer=5 expert=1 bias=2 document.domain=law" --out bias
      mixtral-probe whatif --file novel.txt --edits saved.json --json
    """
    source, changes = chosen_source(text, file, corpus), _edits(edit or (), edits)
    probe = opened_probe(model, device, dtype)
    planned = probe.plan(source, window=window)
    how: dict[str, Any] = {"source": planned, "edits": changes, "placebos": placebos, "generate": generate}
    typer.echo(estimate_line(probe.estimate_what_if(**how), placebos=placebos), err=True)
    result: WhatIf = run_or_stop(probe.what_if, kept="nothing was written", seed=seed, **how)
    if as_json:
        print_json(_facts(result))
    else:
        typer.echo("\n".join(_lines(result)))
    for path in () if out is None else result.write_tables(out.expanduser()):
        typer.echo(f"wrote {path}", err=as_json)


def _edits(typed: Sequence[str], file: Path | None) -> list["Edit"]:
    from mixtral_probe.instruments.edits import load, parse

    edits = [*(() if file is None else load(file.expanduser())), *map(parse, typed)]
    if not edits:
        raise InputError("a what-if needs a change, got none; give --edit or --edits FILE")
    return edits


def _facts(result: "WhatIf") -> dict[str, Any]:
    whole = result.overall().drop(columns=["layer", "expert", "document", "scope"])
    return {
        "model": result.meta["model"]["name"],
        "edits": result.sentences,
        "placebo": result.placebo_sentences,
        "placebos": result.draws,
        "seed": result.seed,
        "documents": len(result.axis("document")),
        "tokens": len(result.axis("token")),
        "rows": records(whole),
        "generated": result.meta.get("generated"),
        "generated_placebo": result.meta.get("generated_placebo"),
    }


def _lines(result: "WhatIf") -> Iterator[str]:
    from mixtral_probe.tables.registry import estimate

    tokens, documents = len(result.axis("token")), len(result.axis("document"))
    yield f"{words.counted(tokens, 'token')} of {words.counted(documents, 'document')}; what if"
    yield from (f"  {sentence}" for sentence in result.sentences)
    if result.draws:
        yield f"placebo: {words.draws(result.draws)}"
        yield from (f"  {sentence}" for sentence in result.placebo_sentences)
    yield f"{'change of':18} {'edited':>10} {'95 % interval':>21} {PLACEBO_HEAD} {'rank':>9}"
    edited = result.overall().query("run == 'edited'").set_index("metric")
    for metric, name in SHOWN.items():
        if metric not in edited.index:
            continue
        row = edited.loc[metric]
        numbers = f"{estimate(row):10.4f} {interval(row['low'], row['high']):>21} {placebo_columns(row)}"
        yield f"{name:18} {numbers} {_rank(row):>9}"
    if documents == 1:
        yield from _next_lines(result)
    drawn = result.generated_placebo or [[] for _ in result.generated]
    for (before, after), draws in zip(result.generated, drawn, strict=True):
        yield f"continued without the change: {before!r}"
        yield f"continued with the change:  {after!r}"
        if draws:
            alike = f"{draws.count(before)} of {words.counted(len(draws), 'draw')} as without the change"
            yield f"continued with the placebo: {draws[0]!r}; {alike}"


def _rank(row: "pd.Series[Any]") -> str:
    """The place of the edits among themselves and the draws; a dash without draws to compare with."""
    band = row["placebo_low"] == row["placebo_low"]
    return f"{row['placebo_rank']} of {row['placebo_draws'] + 1}" if band else "–"


def _next_lines(result: "WhatIf") -> Iterator[str]:
    from mixtral_probe.tables import what_if_next_tokens

    yield f"{'next token':18} {'without':>10} {'edited':>10} {'rank':>10} {'placebo':>10} {'range of draws':>21}"
    for row in what_if_next_tokens(result).head(NEXT_SHOWN).itertuples():
        moved = f"{row.rank} → {row.rank_edited}"
        placebo = f"{number(row.probability_placebo):>10} {interval(row.placebo_low, row.placebo_high):>21}"
        yield f"{row.token!r:18} {row.probability:10.4f} {row.probability_edited:10.4f} {moved:>10} {placebo}"
