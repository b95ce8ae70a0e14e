"""The pages: every file of `app_pages/`, the ones listed here first and with their own title and icon."""

from pathlib import Path

import streamlit as st

from app.state import settings

_KNOWN = {
    "overview": ("Overview", ":material/home:"),
    "expert_load": ("Expert load", ":material/grid_on:"),
    "token_routing": ("Token routing", ":material/alt_route:"),
    "attention": ("Attention", ":material/visibility:"),
    "balance_loss": ("Balance loss", ":material/balance:"),
    "specialization": ("Specialization", ":material/category:"),
    "what_if": ("What-if", ":material/science:"),
    "experts": ("Experts", ":material/badge:"),
    "serving": ("Serving", ":material/dns:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "timing": ("Timing", ":material/timer:"),
    "run": ("Run", ":material/play_circle:"),
}


def files() -> list[Path]:
    """List the pages' files in the order of the menu."""
    order = list(_KNOWN)
    paths = [path for path in settings.PAGES.glob("*.py") if not path.name.startswith("_")]
    return sorted(paths, key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.stem))


def pages() -> list[st.Page]:
    """List the pages as `st.navigation` takes them; the first is the start page."""
    return [_page(path, first=number == 0) for number, path in enumerate(files())]


def _page(path: Path, first: bool) -> st.Page:
    title, icon = _KNOWN.get(path.stem, (path.stem.replace("_", " ").capitalize(), ":material/insights:"))
    return st.Page(path, title=title, icon=icon, default=first, url_path=None if first else path.stem)
