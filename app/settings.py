"""Bounds and names that the whole dashboard shares."""

from pathlib import Path

APP = Path(__file__).parent
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
WHOLE_TRACE_TOKENS = 200_000
"""Up to this many tokens, tables with a row per token are made of the whole trace; above, of one document."""

TYPED_CHARACTERS = 20_000
"""Of a text typed into the page."""
UPLOAD_MEGABYTES = 5
CAPTURE_CHARACTERS = 2_000_000
"""Of all documents of one capture."""
CAPTURE_DOCUMENTS = 1_000
CAPTURE_BYTES = 1_000_000_000
"""Of one capture on disk."""
JOBS_WAITING = 16
"""Captures waiting in line, of all sessions together."""
JOBS_WAITING_EACH = 3
"""Captures waiting in line, of one session."""
RESULTS_KEPT = 12
"""Finished captures kept on disk, of all sessions together; the oldest goes first."""
POLL_SECONDS = 1.0
