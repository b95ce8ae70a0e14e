"""A folder with every table as a file and, if asked, one page that opens offline."""

from mixtral_probe.report.images import write_images
from mixtral_probe.report.write import MARKER, PER_TOKEN_LIMIT, write_report

__all__ = ["MARKER", "PER_TOKEN_LIMIT", "write_images", "write_report"]
