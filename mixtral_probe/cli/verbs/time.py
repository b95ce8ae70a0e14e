"""`mixtral-probe time`: where the time and memory of the forward pass go."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.inputs import chosen_source, opened_probe
from mixtral_probe.cli.outputs import estimate_line, present, saved
from mixtral_probe.cli.progress import counter
from mixtral_probe.cli.reserved import reserves

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.trace import TimingResult

PARTS = ("attention", "router", "experts", "dispatch", "norms", "embedding", "head", "other", "whole")


@reserves("result")
def time(
    model: options.Model = "mini",
    text: options.Text = None,
    file: options.File = None,
    corpus: options.CorpusPath = None,
    repeats: options.Repeats = 9,
    warmup: options.Warmup = 2,
    memory: options.Memory = True,
    nvtx: options.Nvtx = False,
    window: options.WindowTokens = None,
    device: options.Device = "cpu",
    dtype: options.DType = None,
    out: options.ResultOut = None,
    csv: options.Csv = None,
    chrome: options.Chrome = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure where the time and memory of the forward pass go, by part, layer and expert, and what measuring costs.

    As many runs are made without timers, in turns with those that are timed. On a CPU the host's clock is read, on an
    accelerator events of the device.

    \b
    Examples:
      mixtral-probe time --text "def add(a, b): return a + b"
      mixtral-probe time --file novel.txt --repeats 15 --csv timing.csv
      mixtral-probe time --corpus bundled --repeats 3 --chrome forward.json --json
      mixtral-probe time --model ~/mixtral-8x7b --file novel.txt --device cuda --nvtx
    """
    source = chosen_source(text, file, corpus)
    probe = opened_probe(model, device, dtype)
    how: dict[str, Any] = {"source": probe.plan(source, window=window), "repeats": repeats, "warmup": warmup}
    how |= {"memory": memory}
    typer.echo(estimate_line(probe.estimate_time(**how)), err=True)
    result = probe.time(nvtx=nvtx, on_run=counter("runs"), **how)
    files = [saved(result, out), _chrome(result, chrome)]
    present(result, files, csv=csv, as_json=as_json, facts=_facts, lines=_lines)


def _chrome(result: "TimingResult", chrome: Path | None) -> Path | None:
    from mixtral_probe.trace import write_chrome_trace

    return None if chrome is None else write_chrome_trace(result, chrome.expanduser())


def _of_parts(table: "pd.DataFrame") -> dict[str, dict[str, float]]:
    """By part, then metric, over all layers."""
    over = table[table["layer"].isna() & table["site"].isna()]
    parts: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for part, metric, value in zip(over["part"], over["metric"], over["value"], strict=True):
        parts[part][metric] = float(value)
    return parts


def _facts(result: "TimingResult", table: "pd.DataFrame") -> dict[str, Any]:
    return {
        "model": result.meta["model"]["name"],
        "device": result.device,
        "dtype": result.dtype,
        "runs": len(result.seconds_timed),
        **result.settings,
        "parts": _of_parts(table),
        "expert_rows": result.expert_rows.tolist(),
    }


def _lines(result: "TimingResult", table: "pd.DataFrame") -> list[str]:
    parts, how, runs = _of_parts(table), result.settings, len(result.seconds_timed)
    whole = parts["whole"]
    lines = [
        f"{words.counted(how['tokens'], 'token')}, median of {words.counted(runs, 'run')} by {how['clock']} "
        f"({result.device}, {result.dtype}, {words.counted(how['threads'], 'thread')})",
        f"{'part':10} {'ms':>9} {'share':>7}",
    ]
    lines += [f"{part:10} {parts[part]['milliseconds']:9.3g} {parts[part]['time_share']:7.1%}" for part in PARTS]
    lines.append(f"{whole['tokens_per_second']:,.0f} tokens/s; timing itself cost {whole['instrument_cost']:+.1%}")
    if "peak_bytes" in whole:
        lines.append(f"{words.size(whole['peak_bytes'])} of tensors at the peak, beyond the weights")
    return lines
