"""A conversation as text in the format of a chat model, by the template of its tokenizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from mixtral_probe.errors import InputError
from mixtral_probe.reading import MIB, read_text
from mixtral_probe.tokenizer.chat_process import CHAT_PROCESS
from mixtral_probe.tokenizer.token_settings import TokenSettings

Message = Mapping[str, Any]
"""{"role": "user", "content": "…"}, and other fields that a template uses."""
MOST_BYTES = MIB
"""Of a template."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template as in transformers, run in a sandbox with bounds of time and memory."""

    source: str
    tokens: dict[str, str]
    """The control tokens that the template may write, by names such as ``bos_token``."""
    fault: str = ""
    """Why the template cannot be used; found when a folder is read, which is of use without it, and raised later."""

    @classmethod
    def from_folder(cls, folder: str | Path, settings: TokenSettings) -> Self | None:
        """Read ``chat_template.jinja`` or ``tokenizer_config.json`` of a model folder; None if neither has one.

        Args:
            folder: the model folder.
            settings: what its files say about tokens.
        """
        path = Path(folder) / "chat_template.jinja"
        try:
            source = read_text(path, MOST_BYTES) if path.exists() else _default(settings.chat_template)
        except InputError as error:
            return cls("", settings.names, str(error))
        return None if source is None else cls(source, settings.names)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False, **variables: Any) -> str:
        """Return the text of a conversation.

        Raises:
            InputError: the template refuses the conversation, is broken or takes too much time or memory, a variable is
                no value of JSON, or jinja2 is missing.
        """
        if self.fault:
            raise InputError(self.fault)
        _require_jinja()
        defaults = {"tools": None, "documents": None}  # as in transformers; templates compare them with None
        arguments = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        try:
            answer = CHAT_PROCESS.render(self.source, defaults | arguments | self.tokens | variables)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"messages and variables of a chat template must be values of JSON, got an error: {error}; convert them"
            ) from None
        if "error" in answer:
            raise InputError(
                f"the chat template must be fit to write this conversation, got its error: {answer['error']}"
            )
        return answer["text"]


def _require_jinja() -> None:
    try:
        found = find_spec("jinja2") is not None
    except ValueError:  # sys.modules has None for it
        found = False
    if not found:
        raise InputError("a chat template needs the package jinja2; install it with: pip install 'mixtral-probe[chat]'")


def _default(template: Any) -> str | None:
    """Return the template, or among several named ones the one named "default".

    Raises:
        InputError: it has another form.
    """
    if isinstance(template, list) and all(isinstance(entry, dict) for entry in template):
        template = {entry.get("name"): entry.get("template") for entry in template}.get("default")
    if template is not None and not isinstance(template, str):
        raise InputError(
            f"chat_template of tokenizer_config.json must be a text, or a list with names and texts, got {template!r}; "
            "correct it"
        )
    return template
