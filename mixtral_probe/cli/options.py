"""The options of the verbs: their form and their help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_WHAT, _HOW, _GENERATE = "What to run (exactly one)", "How", "Continuing the text"
_CHANGE = "What is changed"

AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
FirstTrace = Annotated[Path, typer.Argument(metavar="TRACE_A", help="A folder that capture wrote.")]
SecondTrace = Annotated[Path, typer.Argument(metavar="TRACE_B", help="Another of the same texts.")]
TraceFolders = Annotated[list[Path], typer.Argument(metavar="TRACE", help="Folders that capture wrote.")]

TraceOut = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Where the trace is written; an existing trace is replaced."),
]
Model = Annotated[
    str, typer.Option(metavar="DIR|mini", help="A Hugging Face model folder; mini is the embedded model.")
]
Text = Annotated[str | None, typer.Option(metavar="T", help="This text.", rich_help_panel=_WHAT)]
File = Annotated[
    Path | None,
    typer.Option(metavar="F", help="A text file, one document; or JSONL or Parquet rows.", rich_help_panel=_WHAT),
]
CorpusPath = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|bundled",
        help="A folder: its subfolders are domains, a .txt in them is a document, a JSONL or Parquet row too.",
        rich_help_panel=_WHAT,
    ),
]
Attention = Annotated[
    str | None,
    typer.Option(
        metavar="LAYERS", help="Record attention too: 0,3 or 8-15 or all; heads as 3:0-7.", rich_help_panel=_HOW
    ),
]
AttentionMaps = Annotated[
    bool,
    typer.Option(
        help="Keep the attention maps, or only entropy, distance and sink share per head.", rich_help_panel=_HOW
    ),
]
WindowTokens = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Cut documents after N tokens; by default where the positions end.", rich_help_panel=_HOW
    ),
]
OfNonfinite = Annotated[
    Literal["refuse", "skip"],
    typer.Option(
        "--nonfinite", rich_help_panel=_HOW,
        help="Of routing that is NaN or infinite, as with overflow in float16: refuse it, or skip: such tokens have no "
        "choice in those layers and count nowhere.",
    ),
]  # fmt: skip
Generate = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Continue each text by at most N tokens, and record them too.", rich_help_panel=_GENERATE
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="T", help="Draw the tokens, the more freely the larger T; 1 as the model predicts.",
        rich_help_panel=_GENERATE,
    ),
]  # fmt: skip
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p", metavar="P", help="Draw from the best tokens that reach the probability P together.",
        rich_help_panel=_GENERATE,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(metavar="S", help="Of what is drawn.", rich_help_panel=_GENERATE)]
Device = Annotated[str, typer.Option(metavar="D", help="Such as cpu, cuda:0 or mps.", rich_help_panel=_HOW)]
DType = Annotated[
    str | None,
    typer.Option(
        metavar="T",
        help="float32, bfloat16, float16, or auto for that of the files; by default float32 on a CPU, else auto.",
        rich_help_panel=_HOW,
    ),
]

ParityModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="DIR|mini", help="Compare on this model too, in float32; without it only on random ones."
    ),
]
Rounds = Annotated[int, typer.Option(metavar="N", min=1, help="Random models, and random inputs for DIR.")]
ParitySeed = Annotated[int, typer.Option("--seed", metavar="S", help="Of the random models and inputs.")]

Repeats = Annotated[
    int, typer.Option(metavar="N", min=1, help="Timed runs, and as many without timers; 6 give intervals.")
]
Warmup = Annotated[int, typer.Option(metavar="N", min=0, help="Runs before them that do not count.")]
Memory = Annotated[bool, typer.Option(help="One more run that counts the bytes of tensors, or none.")]
Nvtx = Annotated[bool, typer.Option("--nvtx", help="Name the work to NVIDIA's profilers.")]
ResultOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Write the result, for `Result.load` and the tables.")
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table.")]
Chrome = Annotated[
    Path | None,
    typer.Option("--chrome", metavar="FILE", help="Write the last timed run for chrome://tracing or Perfetto."),
]

Semantics = Annotated[
    Literal["mask", "zero", "zero_renorm", "mean"],
    typer.Option(
        help="mask: it cannot be chosen, the next takes over. zero: its output is 0, weights kept. zero_renorm: the "
        "same, other weights renormalised. mean: its output is its mean.",
        rich_help_panel=_HOW,
    ),
]
AblatedLayers = Annotated[
    str | None, typer.Option("--layers", metavar="LAYERS", help="Only these, 0,3 or 2-5.", rich_help_panel=_HOW)
]
AblatedExperts = Annotated[
    str | None, typer.Option("--experts", metavar="EXPERTS", help="Only these, 0,3 or 2-5.", rich_help_panel=_HOW)
]
Placebos = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, rich_help_panel=_HOW,
        help="Also do the same to as many assignments drawn at random, N times over; their range holds one more such "
        "draw in (N - 1) / (N + 1) of cases.",
    ),
]  # fmt: skip
PlaceboSeed = Annotated[int, typer.Option("--seed", metavar="S", help="Of the placebo.", rich_help_panel=_HOW)]

Edits = Annotated[
    list[str] | None,
    typer.Option(
        "--edit", metavar="EDIT", rich_help_panel=_CHANGE,
        help="A change: its name and fields, such as 'mask_expert expert=3 layer=2..4'; may be repeated, in order.",
    ),
]  # fmt: skip
EditsFile = Annotated[
    Path | None,
    typer.Option(
        "--edits", metavar="FILE", rich_help_panel=_CHANGE, help="Changes that were saved; those of --edit come after.",
    ),
]  # fmt: skip
WhatIfGenerate = Annotated[
    int | None,
    typer.Option(
        "--generate", metavar="N", min=1, rich_help_panel=_GENERATE,
        help="Continue each text by at most N tokens, without and with the changes and with each draw of the placebo.",
    ),
]  # fmt: skip
WhatIfOut = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder the tables go to, as CSV.")]

ReportOut = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder the files go to.")]
TableFormat = Annotated[Literal["csv", "parquet"], typer.Option("--format", help="Of the tables.")]
Html = Annotated[bool, typer.Option("--html", help="Write one page with figures too, which opens offline.")]
Tables = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMES", help="Only these, with commas between; per-token tables of any size are allowed."),
]
Where = Annotated[
    str | None,
    typer.Option(metavar="EXPR", help='Only what an expression means: layer in 8..15 and domain == "code".'),
]

Port = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=65535, help="By default the first that is free from 8501 upward."),
]
Host = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="127.0.0.1: reached from this machine only; 0.0.0.0: from the network."),
]
Allow = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="Models and traces below it may be opened from the page; may be repeated."),
]
AnyPath = Annotated[str, typer.Argument(metavar="PATH", help="A model folder, mini, or a trace.")]
TracesToOpen = Annotated[
    list[Path] | None, typer.Argument(metavar="TRACE", help="Traces to open; without any, the embedded one.")
]
