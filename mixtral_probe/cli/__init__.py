"""The command line, `mixtral-probe`: every verb is a thin shell over calls that a notebook can make too.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 stopped with Ctrl-C. Nothing heavy is imported before a verb
needs it, so that `--help` answers at once.
"""

from mixtral_probe.cli.app import app


def main() -> None:
    """Run the command line with the arguments of this process, and end the process."""
    app(prog_name="mixtral-probe")


__all__ = ["app", "main"]
