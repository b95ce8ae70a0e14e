"""Bounds and names that the whole dashboard shares."""

from pathlib import Path

APP = Path(__file__).parents[1]
"""The folder of the dashboard."""
ENTRY = APP / "streamlit_app.py"
PAGES = APP / "app_pages"

EXAMPLE = "example.trace"
"""The trace that is open at first, below the bundled data."""
TRACES_OPEN = 4
"""Traces kept open at a time, for all sessions together."""
TABLES_KEPT = 64
"""Tables kept at a time, for all sessions together."""
TOKENS_SHOWN = 400
"""Tokens of one page of the coloured text."""
ROWS_SHOWN = 5_000
"""Rows of a table on screen; its CSV has all."""
LABEL_VALUES = 20
"""Values of a label that the overview names one by one."""
LABEL_CHARACTERS = 220
"""Of those values together."""
WHOLE_TRACE_TOKENS = 200_000
"""Up to this many tokens, tables with a row per token are made of the whole trace; above, of one document."""

RETRACED_KEPT = 3
"""Windows of text whose attention was computed on the page, kept for all sessions together."""
RETRACED_TOKENS = 700
"""Up to this many tokens the attention of every layer is computed, above only that of the chosen one."""
MAP_SIDE = 512
"""Squares a side of a map of attention; longer windows are pooled."""
LENS_TOKENS = 2_048
"""Tokens of one window that are read as predictions of every layer."""

TYPED_CHARACTERS = 20_000
"""Of a text typed into the page."""
UPLOAD_MEGABYTES = 5
MODELS_LISTED = 50
"""Model folders offered, of those below the allowed folders."""
POLL_SECONDS = 1.0
