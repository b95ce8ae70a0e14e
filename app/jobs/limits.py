"""Bounds of jobs and of their results."""

CAPTURE_CHARACTERS = 2_000_000
"""Of all documents of one capture."""
CAPTURE_DOCUMENTS = 1_000
CAPTURE_BYTES = 1_000_000_000
"""Of one capture on disk."""
JOBS_WAITING = 16
"""Waiting jobs, of all sessions together."""
JOBS_WAITING_EACH = 3
"""Waiting jobs of one session."""
RESULTS_KEPT = 12
"""Results of jobs kept on disk, of all sessions together; the oldest is deleted first."""
