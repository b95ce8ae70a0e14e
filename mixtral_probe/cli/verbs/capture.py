"""`mixtral-probe capture`: run text through a model and write a trace."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.outputs import estimate_line
from mixtral_probe.cli.progress import run_or_stop
from mixtral_probe.cli.reserved import reserves
from mixtral_probe.cli.shell import print_json
from mixtral_probe.errors import InputError

if TYPE_CHECKING:
    from mixtral_probe.probe import Probe
    from mixtral_probe.run import Plan, ResourceEstimate
    from mixtral_probe.trace import Trace


@reserves("trace")
def capture(
    out: options.TraceOut,
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.CorpusPath = None,
    attention: options.Attention = None,
    attention_maps: options.AttentionMaps = True,
    window: options.WindowTokens = None,
    generate: options.Generate = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    seed: options.Seed = 0,
    nonfinite: options.OfNonfinite = "refuse",
    device: options.Device = "cpu",
    dtype: options.DType = None,
    as_json: options.AsJson = False,
) -> None:
    """Run text through a model and record what its routers did, as a trace.

    Estimates memory, disk and time first. Ctrl-C stops between batches; the same command continues where it stopped.

    \b
    Examples:
      mixtral-probe capture --text "def add(a, b): return a + b" --out add.trace
      mixtral-probe capture --file novel.txt --attention 0,3 --out novel.trace
      mixtral-probe capture --corpus bundled --out corpus.trace
      mixtral-probe capture --text "Once upon a time" --generate 50 --temperature 0.8 --out story.trace
      mixtral-probe capture --model ~/mixtral-8x7b --corpus my_texts --dtype bfloat16 --out big.trace
    """
    source = chosen_source(text, file, corpus)
    _announce_unfinished(out)
    probe = opened_probe(model, device, dtype)
    planned = probe.plan(source, window=window, cut=generate is None)
    chosen: dict[str, Any] = {"attention": attention, "attention_maps": attention_maps}
    chosen |= {} if generate is None else {"generate": generate}
    expected = probe.estimate(planned, **chosen)
    typer.echo(estimate_line(expected, most=generate is not None), err=as_json)
    trace = _run(probe, planned, out, chosen | {"nonfinite": nonfinite} | _drawing(generate, temperature, top_p, seed))
    if as_json:
        print_json(_facts(trace, expected))
    else:
        typer.echo(f"wrote {out}: {_trace_words(trace)}")


def _drawing(generate: int | None, temperature: float | None, top_p: float | None, seed: int) -> dict[str, Any]:
    """How tokens are chosen: drawn where one of the two settings of drawing is set, else as the model's folder says."""
    settings = {"temperature": temperature, "top_p": top_p}
    drawing = {name: value for name, value in settings.items() if value is not None}
    if generate is None:
        if drawing:
            raise InputError(f"--{min(drawing).replace('_', '-')} says how tokens are drawn, so it needs --generate N")
        return {}
    return {"seed": seed, **({"do_sample": True} if drawing else {}), **drawing}


def _announce_unfinished(out: Path) -> None:
    for ending in (".partial", ".parts"):
        if (unfinished := out.with_name(out.name + ending)).is_dir():
            typer.echo(f"continuing the unfinished run in {unfinished}", err=True)


def _run(probe: "Probe", planned: "Plan", out: Path, chosen: dict[str, Any]) -> "Trace":
    folder = f"{out}.parts" if "generate" in chosen else f"{out}.partial"
    kept = f"what is done is kept in {folder}, and the same command continues there"
    return run_or_stop(probe.trace, kept=kept, source=planned, path=out, **chosen)


def _trace_words(trace: "Trace") -> str:
    return f"{words.counted(trace.num_tokens, 'token')} through {words.counted(trace.num_layers, 'layer')}"


def _facts(trace: "Trace", expected: "ResourceEstimate") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(trace.path),
        "documents": trace.num_documents,
        "tokens": trace.num_tokens,
        "layers": trace.num_layers,
        "experts": trace.num_experts,
        "experts_per_token": trace.num_experts_per_tok,
        "estimate": asdict(expected),
    }
