"""The page docs/selection.md: `python -m mixtral_probe.selection.docs > docs/selection.md`."""

from mixtral_probe.selection.fields import FIELDS
from mixtral_probe.selection.named import SLICES

_HEAD = """# The language of selections

An expression says which token counts in which layer:

```text
layer in 8..15 and token.is_digit and domain == "code"
expert == 3 and weight[3] > 0.7          # expert 3 is among the chosen, and weighs more than 0.7
choice[0] in {1, 4..6} or margin < 0.1   # its first choice is one of these, or it was a close call
not (domain is missing) and @words       # a named slice
```

(Remarks after `#` are not part of the expressions.) It is the same everywhere:

```python
mp.RoutingStats.from_trace(trace, where="token.is_digit")        # statistics, and so tables, of these tokens
mp.select(trace, "layer in 8..15")                               # the trace, with no expert anywhere else
mp.Selection(where="@digits").mask(trace)                        # [L, T] True where it holds
mp.write_report([trace], "digits", where="token.is_digit")
```

`mixtral-probe report TRACE --where "token.is_digit" --out digits` does it on the command line, and the field *Where* of
the dashboard on every page; the address bar keeps it.

- **Tests**: `==`, `!=`, `<`, `<=`, `>`, `>=`; `in` a range `8..15` (both ends belong to it, `8..` and `..3` are open)
  or a set `{1, 4..6}`, `not in`; of texts also `contains`, `startswith`, `endswith`; `is missing`. A name that is true
  or false is a test by itself.
- **Together**: `not` before `and` before `or`, and brackets.
- **Values**: numbers; texts in single or double quotes, with `\\n`, `\\"`, `\\\\` and `\\uXXXX`; `true` and `false`.
- What is missing passes no test, so `nll > 2` leaves a token without a loss out, and `not nll > 2` keeps it.
- A token counts or does not in a layer as a whole: `expert == 3` holds where expert 3 is among the chosen, and the
  others that were chosen with it are counted too. `expert != 3` holds where it is not.
- Special tokens are left out of statistics without `include_special=True`.
- With a lag, both tokens must count, and so must those between them.

An error is one sentence, with a caret under its place.
"""
_NAMES = """
## Names

The labels of the documents are names too: `domain == "code"`, `year > 1990`. `label.layer`, or `label["my label"]`,
is a label with the name of one of these, or with a name that is no word.

| name | kind | meaning |
|---|---|---|"""
_SLICES = """
## Named slices

`@digits` stands for the expression next to it. Further slices are defined with `slices=` in Python, and in the sidebar
of the dashboard, where the address bar keeps them.

| slice | expression |
|---|---|"""


def selection_page() -> str:
    """Return docs/selection.md as text."""
    names = [
        f"| `{name}{'[…]' if field.needs_index else ''}` | {field.kind} | {field.about} |"
        for name, field in FIELDS.items()
    ]
    slices = [f"| `@{name}` | `{text}` |" for name, text in SLICES.items()]
    return "\n".join([_HEAD.rstrip(), _NAMES, *names, _SLICES, *slices, ""])


if __name__ == "__main__":
    print(selection_page(), end="")
