"""New tokens as text, told as soon as their characters are whole."""

from collections.abc import Callable, Sequence

from torch import Tensor

from mixtral_probe.tokenizer import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def new_text(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """What the new tokens add to the text; a tokenizer may write a token otherwise at the beginning of a text."""
    before, both = tokenizer.decode(prompt), tokenizer.decode([*prompt, *new])
    return both[len(before) :] if both.startswith(before) else tokenizer.decode(new)


class TextStream:
    """A streamer of one row: ``write`` is called with what each token adds; ``finish`` tells what was held back."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], write: Callable[[str], None]) -> None:
        self._tokenizer, self._prompt, self._write = tokenizer, prompt, write
        self._new: list[int] = []
        self._told = 0

    def __call__(self, tokens: Tensor) -> None:
        """One more token, [1]."""
        self._new.append(int(tokens[0]))
        text = new_text(self._tokenizer, self._prompt, self._new)
        if not text.endswith(UNFINISHED):  # bytes of a character whose others may still come
            self._tell(text)

    def finish(self) -> None:
        """No more tokens will come."""
        self._tell(new_text(self._tokenizer, self._prompt, self._new))

    def _tell(self, text: str) -> None:
        if len(text) > self._told:
            self._write(text[self._told :])
            self._told = len(text)
