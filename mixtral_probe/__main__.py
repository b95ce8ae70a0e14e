"""`python -m mixtral_probe` is the command `mixtral-probe`."""

from mixtral_probe.cli import main

main()
