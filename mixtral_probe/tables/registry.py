"""Every table by name, from the SPEC at the end of each table's module."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from mixtral_probe.tables.spec import Metric, Origin, TableSpec, band_text, estimate, estimates

__all__ = [
    "COMPARISONS",
    "EXPERIMENTS",
    "METRICS",
    "PARTS",
    "SPECS",
    "SUBJECTS",
    "TABLES",
    "Metric",
    "band_text",
    "estimate",
    "estimates",
    "metric_of",
]

SUBJECTS = ("load", "losses", "specialization", "structure", "attention", "systems", "comparisons", "experiments")
"""The folders of this package in the order of the report."""


def _specs() -> Iterator[TableSpec]:
    for subject in SUBJECTS:
        package = import_module(f"{__package__}.{subject}")
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            spec = getattr(import_module(module.name), "SPEC", None)
            if spec is not None:
                yield spec


SPECS = MappingProxyType({spec.name: spec for spec in _specs()})
"""All tables."""


def _from(*sources: Origin) -> dict[str, TableSpec]:
    return {name: spec for name, spec in SPECS.items() if spec.source in sources}


TABLES = _from("trace", "stats")
"""Those of one trace or its statistics, which a report has."""
COMPARISONS = _from("traces")
"""Those of several traces of the same texts."""
EXPERIMENTS = _from("result")
"""Those of the result of an experiment."""
PARTS = _from("part")
"""Those of a part of a trace that further arguments name, and those of published data."""
METRICS = {name: metric for spec in SPECS.values() for name, metric in spec.metrics.items()}
"""Every metric by name; its label, format and null are the same in all tables."""


def metric_of(name: str) -> Metric:
    """Return how a metric is written; an unknown one is called by its name."""
    return METRICS.get(name) or Metric("", name.replace("_", " "))
