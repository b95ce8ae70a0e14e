"""The dashboard: clicks become calls that a notebook user could make too."""
