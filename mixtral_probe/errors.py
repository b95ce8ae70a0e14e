"""The one exception for mistakes a user can make."""

LONGEST = 2_000
"""Characters of an error's text; of a longer one the middle is left out."""


class InputError(ValueError):
    """A user's input broke a rule. Its text is one sentence: the rule, what came, what to do.

    What came is quoted, and may be of any length and contain what no terminal can print, so the text is shortened and
    lone surrogates are escaped.
    """

    def __init__(self, text: str = "") -> None:
        """Keep the text.

        Args:
            text: the sentence.
        """
        printable = text.encode("utf-8", "backslashreplace").decode()
        super().__init__(
            printable if len(printable) <= LONGEST else f"{printable[: LONGEST // 2]} … {printable[-500:]}"
        )
