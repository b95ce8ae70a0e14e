"""Inputs that anyone may have made, for every reader: `python -m tests.hostile --minutes 30` tells how they fare.

A reader passes where it returns or raises an `InputError` of one sentence, in bounded time and memory.
"""
