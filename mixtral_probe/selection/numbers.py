"""A set of whole numbers, written as `0,3,8..15`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mixtral_probe.errors import InputError

_PART = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?")


@dataclass(frozen=True)
class Numbers:
    """Whole numbers from 0, as ascending closed ranges with gaps between them; no range stands for every number."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Numbers":
        """Collect numbers into ranges."""
        return cls._joined((number, number) for number in numbers)

    @classmethod
    def parse(cls, text: str) -> "Numbers":
        """Read what `str` returns.

        Raises:
            InputError: the text has another form.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        matches = [_PART.fullmatch(part) for part in parts]
        for part, match in zip(parts, matches, strict=True):
            if match is None:
                raise InputError(f"numbers are written as 0,3,8..15, got {part!r}")
        return cls._joined((int(match[1]), int(match[2] or match[1])) for match in matches if match)

    @classmethod
    def _joined(cls, ranges: Iterable[tuple[int, int]]) -> "Numbers":
        merged: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if low < 0 or high < low:
                raise InputError(f"a range of numbers goes upward from 0 or more, got {low}..{high}")
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        return cls(tuple(merged))

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
        """Return the expression that a name is one of them, such as `layer in {0, 8..15}`."""
        return f"{name} in {{{', '.join(str(self).split(','))}}}"


EVERY = Numbers()
"""No restriction."""
