"""Run the examples of README.md and docs/command_line.md and put their output below: `python docs/refresh_examples.py`.

A ```python block is followed by a ```text block, which gets what it printed. In a ```console block, a line that begins
with `$ ` is a command, and what stands below it is its output. All examples run in one empty folder, in their order.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "command_line.md")
_PYTHON = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<output>.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n(?P<lines>.*?)```", re.DOTALL)
_SHELL = 'mixtral-probe() {{ "{python}" -m mixtral_probe "$@"; }}; {command}'


def refreshed(text: str, folder: Path) -> str:
    """Return a document with the output of its examples as they print it now, run in `folder`.

    Raises:
        RuntimeError: an example failed; its stderr is in the message.
    """
    examples = sorted([*_PYTHON.finditer(text), *_CONSOLE.finditer(text)], key=lambda match: match.start())
    pieces, end = [], 0
    for match in examples:
        pieces += [text[end : match.start()], _again(match, folder)]
        end = match.end()
    return "".join([*pieces, text[end:]])


def _again(match: re.Match[str], folder: Path) -> str:
    if match.re is _CONSOLE:
        return "".join(["```console\n", *_answers(match["lines"], folder), "```"])
    printed = _run([sys.executable, "-c", match["code"]], folder)
    return f"```python\n{match['code']}```\n\n```text\n{printed}```"


def _answers(lines: str, folder: Path) -> Iterator[str]:
    for line in lines.splitlines():
        if line.startswith("$ "):
            shell = _SHELL.format(python=sys.executable, command=line[2:])
            yield f"{line}\n{_run(['bash', '-c', shell], folder)}"


def _run(command: list[str], folder: Path) -> str:
    source = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": source}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"an example failed: {command[-1]}\n{done.stderr}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


if __name__ == "__main__":
    for document in DOCUMENTS:
        with tempfile.TemporaryDirectory() as scratch:
            document.write_text(refreshed(document.read_text(encoding="utf-8"), Path(scratch)), encoding="utf-8")
