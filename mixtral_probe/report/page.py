"""The one page of a report: figures, first rows and origin, with everything it needs inside it."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mixtral_probe.figures import CONFIG, scales, template
from mixtral_probe.figures.words import shared_scope
from mixtral_probe.report.drawings import draw
from mixtral_probe.report.headlines import headline
from mixtral_probe.report.sources import ReportTrace
from mixtral_probe.tables import TableSpec

FIRST_ROWS = 8
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)


def text(value: object) -> str:
    """Return any text as HTML: escaped, with what UTF-8 cannot hold spelled out."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"))


@dataclass(frozen=True)
class _Part:
    """The part of a section about one trace."""

    name: str
    headline: str
    scope: str
    figures: tuple[str, ...]
    """JSON."""
    rows: str
    """HTML."""


@dataclass(frozen=True)
class Section:
    """One table of all traces."""

    spec: TableSpec
    file: str
    length: int
    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, spec: TableSpec, file: str, tables: Sequence[tuple[ReportTrace, pd.DataFrame]]) -> "Section":
        """Return the section of a table, from the rows of each trace; keeps none of the tables."""
        parts = tuple(
            _Part(
                source.name,
                headline(spec.name, table),
                _scope(source, table),
                tuple(_figure_json(figure) for figure in draw(spec, table)),
                _table_html(table.head(FIRST_ROWS)) if len(table) else "",
            )
            for source, table in tables
        )
        return cls(spec, file, sum(len(table) for _, table in tables), parts)


def _scope(source: ReportTrace, table: pd.DataFrame) -> str:
    """Say which tokens a table is about, and how many."""
    if "n" in table and table["n"].notna().any():
        low, high = int(table["n"].min()), int(table["n"].max())
        size = f"n = {high:,} tokens" if low == high else f"n = {low:,} to {high:,} tokens, as each row says"
    else:
        size = f"{len(source.trace):,} tokens"
    return "; ".join([*(shared_scope(table) if "scope" in table else []), size])


@dataclass
class Page:
    """The page, to which sections are added one by one."""

    sources: Sequence[ReportTrace]
    sections: list[Section] = field(default_factory=list)

    def add(self, section: Section) -> None:
        """Append a section."""
        self.sections.append(section)

    def html(self, left_out: Mapping[str, str]) -> str:
        """Return the whole page."""
        sections = sorted(self.sections, key=lambda section: section.spec.per_token)
        title = "Routing report: " + ", ".join(source.name for source in self.sources)
        body = [
            f"<h1>{text(title)}</h1>",
            f'<p class="muted">{text(_sizes(self.sources))}</p>',
            _contents(sections),
            *(_section(section, several=len(self.sources) > 1) for section in sections),
            _left_out(left_out),
            _origin(self.sources),
        ]
        themes = {"light": _theme(dark=False), "dark": _theme(dark=True), "config": CONFIG}
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{text(title)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(part for part in body if part)
            + f"\n</main>\n{_json_script('themes', json.dumps(themes))}\n<script>{get_plotlyjs()}</script>\n"
            f"<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n"
        )


def _sizes(sources: Sequence[ReportTrace]) -> str:
    traces = [source.trace for source in sources]
    documents, tokens = sum(trace.num_documents for trace in traces), sum(len(trace) for trace in traces)
    first = traces[0].meta
    shape = f"{first.num_layers} layers × {first.num_experts} experts, {first.num_experts_per_tok} per token"
    sizes = f"{documents:,} documents, {tokens:,} tokens, {shape}. Layers, experts, heads and positions count from 0."
    return sizes if sources[0].where is None else f"{sizes} Only where {sources[0].where}."


def _contents(sections: Sequence[Section]) -> str:
    items = [f'<li><a href="#{section.spec.name}">{text(_noun(section.spec.name))}</a></li>' for section in sections]
    return f'<nav aria-label="Tables"><ol>{"".join(items)}</ol></nav>'


def _noun(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _section(section: Section, *, several: bool) -> str:
    spec, file = section.spec, section.file
    lines = [
        f'<section id="{spec.name}">',
        f"<h2>{text(_noun(spec.name))}</h2>",
        f'<p class="muted">{text(spec.description)} '
        f'<a href="{quote(file)}">{text(file)}</a>, {section.length:,} rows.</p>',
    ]
    for number, part in enumerate(section.parts):
        lines += [f"<h3>{text(part.name)}</h3>"] if several else []
        lines += [f'<p class="headline">{text(part.headline)}</p>'] if part.headline else []
        lines += [f'<p class="about">Scope: {text(part.scope)}.</p>']
        lines += [_figure(f"{spec.name}-{number}-{place}", figure) for place, figure in enumerate(part.figures)]
        lines += [f"<details><summary>First rows</summary>{part.rows}</details>"] if part.rows else []
    meanings = "".join(f"<dt>{text(name)}</dt><dd>{text(words)}</dd>" for name, words in _meanings(spec).items())
    return "\n".join([*lines, f"<details><summary>What it says</summary><dl>{meanings}</dl></details>", "</section>"])


def _meanings(spec: TableSpec) -> dict[str, str]:
    return spec.columns | {f"metric {name}": metric.meaning for name, metric in spec.metrics.items()}


def _figure(name: str, content: str) -> str:
    height = json.loads(content)["layout"].get("height", 400)
    place = f'<div class="figure" data-figure="figure-{name}" style="--height: {int(height)}px"></div>'
    place = f'<div class="wide" tabindex="0">{place}</div>'
    return f"{place}\n{_json_script(f'figure-{name}', content)}"


def _json_script(name: str, content: str) -> str:
    """Return JSON as part of the page; no text in it can end the script."""
    safe = content.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{name}">{safe}</script>'


def _figure_json(figure: go.Figure) -> str:
    """Return a figure without its theme, which the page has once."""
    plain = go.Figure(figure).update_layout(template=None, **{axis: {"colorscale": None} for axis in _axes(figure)})
    return str(plain.to_json(engine="json"))


def _axes(figure: go.Figure) -> list[str]:
    return list((figure.layout.meta or {}).get("scales", {}))


def _theme(dark: bool) -> dict[str, Any]:
    return {"template": template(dark).to_plotly_json(), "scales": scales(dark)}


@cache
def _asset(name: str) -> str:
    return files("mixtral_probe.report").joinpath(name).read_text(encoding="utf-8")


def _table_html(table: pd.DataFrame) -> str:
    kinds = {name: "" if pd.api.types.is_numeric_dtype(table[name]) else "text" for name in table.columns}
    head = "".join(f'<th class="{kinds[name]}" scope="col">{text(name)}</th>' for name in table.columns)
    rows = table.astype(object).itertuples(index=False, name=None)
    body = "".join(
        f"<tr>{''.join(_cell(*pair, kinds) for pair in zip(table.columns, row, strict=True))}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(name: str, value: object, kinds: Mapping[str, str]) -> str:
    written = "" if pd.isna(value) else f"{value:.5g}" if isinstance(value, float) else str(value)
    kind = name if name in ("scope", "token") else ""
    return f'<td class="{kinds[name]} {kind}">{text(repr(written)[1:-1] if name == "token" else written)}</td>'


def _left_out(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li><code>{text(name)}</code>: {text(why)}</li>" for name, why in left_out.items())
    return f"<section><h2>Left out</h2><ul>{items}</ul></section>"


def _origin(sources: Sequence[ReportTrace]) -> str:
    parts = ['<section id="origin">', "<h2>Origin</h2>"]
    for source in sources:
        facts = "".join(
            f"<dt>{text(name)}</dt><dd>{text(_fact(value))}</dd>" for name, value in source.provenance().items()
        )
        parts += [f"<h3>{text(source.name)}</h3>", f"<dl>{facts}</dl>"]
    return "\n".join([*parts, "</section>"])


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {part}" for name, part in value.items()) or "not said"
    if isinstance(value, list):
        return "; ".join(_fact(part) for part in value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value or "not said")
