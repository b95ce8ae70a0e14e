"""A conversation as text in the format of a chat model, by the template of its tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from mixtral_probe.errors import InputError
from mixtral_probe.tokenizer.token_settings import TokenSettings

Message = Mapping[str, Any]
"""{"role": "user", "content": "…"}, and other fields that a template uses."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template as in transformers, run in a sandbox."""

    source: str
    tokens: dict[str, str]
    """The control tokens that the template may write, by names such as ``bos_token``."""

    @classmethod
    def from_folder(cls, folder: str | Path, settings: TokenSettings) -> "ChatTemplate | None":
        """Read ``chat_template.jinja`` or ``tokenizer_config.json`` of a model folder; None if neither has one.

        Args:
            folder: the model folder.
            settings: what its files say about tokens.
        """
        path = Path(folder) / "chat_template.jinja"
        source = path.read_text(encoding="utf-8") if path.is_file() else _default(settings.chat_template)
        if source is None:
            return None
        return cls(source, settings.names)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False, **variables: Any) -> str:
        """Return the text of a conversation.

        Raises:
            InputError: the template refuses the conversation or is broken, or jinja2 is missing.
        """
        try:
            import jinja2
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ModuleNotFoundError:
            raise InputError(
                "a chat template needs the package jinja2; install it with: pip install 'mixtral-probe[chat]'"
            ) from None
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_block()]
        )
        environment.filters["tojson"] = _as_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        defaults = {"tools": None, "documents": None}  # as in transformers; templates compare them with None
        arguments = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        try:
            return environment.from_string(self.source).render(defaults | arguments | self.tokens | variables)
        except jinja2.TemplateError as error:
            raise InputError(
                f"the chat template must be fit to write this conversation, got its error: {error}"
            ) from None


def _default(template: Any) -> str | None:
    """Return the template, or among several named ones the one named "default"."""
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default")
    return template


def _generation_block() -> Any:
    """Return the extension for ``{% generation %}``, the mark of transformers around answers; without effect here."""
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - the form that jinja2 requires

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation


def _as_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, sort_keys: bool = False) -> str:
    """Return JSON as transformers writes it: the filter of jinja2 escapes <, > and & for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
