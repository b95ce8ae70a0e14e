"""`mixtral-probe parity`: ours against the installed transformers."""

from typing import TYPE_CHECKING, Any

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.progress import counter
from mixtral_probe.cli.shell import FAILED, print_json

if TYPE_CHECKING:
    from mixtral_probe.parity.parity import ParityReport, RoutingAgreement


def parity(
    model: options.ParityModel = None,
    rounds: options.Rounds = 8,
    seed: options.ParitySeed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Compare every output with that of the installed transformers; exit code 1 if one differs too much.

    Random models of uneven sizes, and with --model a folder. The numerics "reference" must be equal to the bit (the
    balance loss to 1e-5), "fast" to 1e-4 of the largest value, and the same experts chosen wherever their logits differ
    by more than 1e-4.

    \b
    Examples:
      mixtral-probe parity
      mixtral-probe parity --model mini --rounds 20 --seed 1
      mixtral-probe parity --model ~/mixtral-8x7b --rounds 1 --json
    """
    from mixtral_probe.parity.parity import parity as compare

    report = compare(model, rounds, seed, counter("rounds"))
    if as_json:
        print_json(_facts(report))
    else:
        for line in _lines(report):
            typer.echo(line)
    if not report.met:
        raise typer.Exit(FAILED)


def _facts(report: "ParityReport") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "met": report.met,
        "transformers": report.version,
        "model": report.model,
        "rounds": report.rounds,
        "differences": report.differences.to_dict("records"),
        "routing": {numerics: asdict(agreement) for numerics, agreement in report.routing.items()},
    }


def _lines(report: "ParityReport") -> list[str]:
    on = "random models" if report.model is None else f"random models and {report.model}"
    lines = [f"transformers {report.version}, {words.counted(report.rounds, 'round')} on {on}, float32"]
    lines.append(f"{'numerics':10} {'output':14} {'largest difference':>18} {'limit':>8}")
    for row in report.differences.itertuples():
        verdict = "" if row.met else "  MISSED"
        lines.append(f"{row.numerics:10} {row.output:14} {row.largest:18.3g} {row.limit:8.3g}{verdict}")
    lines += [f"{numerics}: {_routing_words(agreement)}" for numerics, agreement in report.routing.items()]
    lines.append("everything agrees" if report.met else "something differs too much")
    return lines


def _routing_words(agreement: "RoutingAgreement") -> str:
    equal = agreement.choices - agreement.different
    same = f"the same experts in {equal:,} of {words.counted(agreement.choices, 'choice')}"
    if agreement.smallest_margin is None:
        return same
    margin = f"{agreement.smallest_margin:.3g}, {agreement.missed} are above 1e-4"
    return f"{same}; the smallest margin of the others is {margin}"
