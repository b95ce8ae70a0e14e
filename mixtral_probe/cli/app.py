"""The list of verbs."""

import typer

from mixtral_probe.cli.shell import plain_errors
from mixtral_probe.cli.verbs.ablate import ablate
from mixtral_probe.cli.verbs.capture import capture
from mixtral_probe.cli.verbs.compare import compare
from mixtral_probe.cli.verbs.dashboard import dashboard
from mixtral_probe.cli.verbs.info import info
from mixtral_probe.cli.verbs.parity import parity
from mixtral_probe.cli.verbs.report import report
from mixtral_probe.cli.verbs.saliency import saliency
from mixtral_probe.cli.verbs.time import time
from mixtral_probe.cli.verbs.whatif import whatif

app = typer.Typer(
    help="What the routers, experts and attention heads of a Mixtral model do with your text.",
    epilog="Start with `mixtral-probe dashboard`, or `mixtral-probe VERB --help` for examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for verb in (capture, report, compare, info, dashboard, parity, time, whatif, saliency, ablate):
    app.command()(plain_errors(verb))
