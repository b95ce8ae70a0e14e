"""A set of whole numbers, written as `0,3,8..15`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mixtral_probe.errors import InputError

_PART = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?")


@dataclass(frozen=True)
class Numbers:
    """Whole numbers from 0 as closed ranges that rise and do not touch; none at all stands for every number."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Numbers":
        """These numbers."""
        return cls._joined((number, number) for number in numbers)

    @classmethod
    def parse(cls, text: str) -> "Numbers":
        """What `str` gives.

        Raises:
            InputError: it is something else.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        found = [_PART.fullmatch(part) for part in parts]
        for part, match in zip(parts, found, strict=True):
            if match is None:
                raise InputError(f"numbers are written as 0,3,8..15, got {part!r}")
        return cls._joined((int(match[1]), int(match[2] or match[1])) for match in found if match)

    @classmethod
    def _joined(cls, ranges: Iterable[tuple[int, int]]) -> "Numbers":
        held: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if low < 0 or high < low:
                raise InputError(f"a range of numbers goes upward from 0 or more, got {low}..{high}")
            if held and low <= held[-1][1] + 1:
                held[-1] = (held[-1][0], max(high, held[-1][1]))
            else:
                held.append((low, high))
        return cls(tuple(held))

    def __str__(self) -> str:
        return ",".join(f"{low}" if low == high else f"{low}..{high}" for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __contains__(self, number: int) -> bool:
        return any(low <= number <= high for low, high in self.ranges)

    def test(self, name: str) -> str:
        """The expression that a name is one of them, such as `layer in {0, 8..15}`."""
        return f"{name} in {{{', '.join(str(self).split(','))}}}"


EVERY = Numbers()
"""No restriction."""
