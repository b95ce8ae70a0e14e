"""The error of an expression, with its place."""

from typing import Any, NamedTuple

from mixtral_probe.errors import InputError

_AROUND = 60
"""Characters displayed on either side of the place."""


class Place(NamedTuple):
    """Where something stands in an expression: characters from `start` up to `stop`."""

    start: int
    stop: int


class SelectionError(InputError):
    """An expression that breaks a rule: one sentence, and below it the line with carets under the place."""

    def __init__(self, sentence: str, text: str, place: Place) -> None:
        """Keep the parts, for pages that draw the place themselves.

        Args:
            sentence: the rule, the value, what to do.
            text: the expression as typed.
            place: where in it.
        """
        self.sentence, self.text, self.place = sentence, text, place
        super().__init__(f"{sentence}\n{self.pointer}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the parts: worker processes send errors back."""
        return SelectionError, (self.sentence, self.text, self.place)

    @property
    def pointer(self) -> str:
        """The line of the expression around the place, and carets below it."""
        begin = self.text.rfind("\n", 0, self.place.start) + 1
        line = self.text[begin:].split("\n", 1)[0]
        start, stop = self.place.start - begin, max(self.place.stop - begin, self.place.start - begin + 1)
        first = max(0, start - _AROUND)
        excerpt = _visible(line[first : stop + _AROUND])
        return f"  {excerpt}\n  {' ' * (start - first)}{'^' * min(stop - start, len(excerpt) - (start - first) or 1)}"


def _visible(line: str) -> str:
    """Return text of one column per character, with "·" for characters that cannot be printed."""
    return "".join(character if character.isprintable() else "·" for character in line)
