"""New tokens as text, written as soon as their characters are complete."""

from collections.abc import Callable, Sequence

from torch import Tensor

from mixtral_probe.tokenizer import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def new_text(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text that new tokens add; a tokenizer may write a token differently at the beginning of a text."""
    before, both = tokenizer.decode(prompt, chosen=True), tokenizer.decode([*prompt, *new], chosen=True)
    return both[len(before) :] if both.startswith(before) else tokenizer.decode(new, chosen=True)


class TextStream:
    """A streamer of one row: ``write`` is called with the text each token adds, ``finish`` writes the rest."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], write: Callable[[str], None]) -> None:
        self._tokenizer, self._prompt, self._write = tokenizer, prompt, write
        self._new: list[int] = []
        self._written = 0

    def __call__(self, tokens: Tensor) -> None:
        """One more token, [1]."""
        self._new.append(int(tokens[0]))
        text = new_text(self._tokenizer, self._prompt, self._new)
        if not text.endswith(UNFINISHED):  # bytes of a character whose other bytes may follow
            self._write_new(text)

    def finish(self) -> None:
        """Write the rest, after the last token."""
        self._write_new(new_text(self._tokenizer, self._prompt, self._new))

    def _write_new(self, text: str) -> None:
        if len(text) > self._written:
            self._write(text[self._written :])
            self._written = len(text)
