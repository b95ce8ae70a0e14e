"""A program that writes conversations by chat templates, within bounds of memory; ``chat_process`` runs it.

A template is code from a model folder, and no sandbox of Jinja bounds the time or the memory that it takes. So it runs
in this process of its own, which reads one JSON object a line and answers each with one.
"""

import json
import sys
from datetime import datetime
from typing import Any, NoReturn

MOST_BYTES = 2**29
"""Of address space."""
MOST_CHARACTERS = 2**24
"""Of a conversation."""
MOST_OF_AN_ERROR = 1_000
"""Characters."""


def main() -> None:
    """Answer requests on standard input until it ends."""
    _limit_memory()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _limit_memory() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MOST_BYTES if hard == resource.RLIM_INFINITY else min(hard, MOST_BYTES)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    except (OSError, ValueError):  # macOS has no such limit; the limit of time remains
        return


def _answer(request: dict[str, Any]) -> dict[str, str]:
    """Return {"text": …}, or {"error": …} for whatever a template raises."""
    try:
        text = _environment().from_string(request["template"]).render(request["variables"])
        if len(text) > MOST_CHARACTERS:
            return {"error": f"more than {MOST_CHARACTERS:,} characters"}
        return {"text": text}
    except MemoryError:
        return {"error": f"more than {MOST_BYTES / 2**30:g} GiB of memory"}
    except RecursionError:
        return {"error": "nested too deep"}
    except Exception as error:  # a template can raise anything
        return {"error": (str(error) or type(error).__name__)[:MOST_OF_AN_ERROR]}


def _environment() -> Any:
    """Return the environment of transformers."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_block()]
    )
    environment.filters["tojson"] = _as_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return environment


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


if __name__ == "__main__":
    main()
