"""Jackknife intervals by brute force: the tokens of one document are removed from the raw arrays and everything is
computed again."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from tests.referee.counting import ALL, groups_of, place
from tests.referee.differences import group_differences
from tests.referee.record import LAYERS, Record
from tests.referee.rows import UNCHECKED, Row, plain

FEWEST = 5
"""Documents that reach a row which has an interval."""


class Interval(NamedTuple):
    """What a table says beside the value of a row."""

    corrected: float
    low: float
    high: float


class Sample(NamedTuple):
    """A statistic without each document of a sample in turn, and the tokens of each."""

    deleted: list[float]
    tokens: list[float]


def interval_of(value: float, samples: list[Sample], *, joint: bool = False, curvature: float = 0) -> Interval:
    """The interval of Efron & Stein (1981): of each sample with g documents the bias is (g - 1)(mean - value) and the
    variance (g - 1)/g times the sum of squares about the mean, for which t has (sum m)^2 / sum m^2 - 1 degrees of
    freedom. Of several samples biases are added, and squares of half the interval; or variances, with degrees of
    freedom by Satterthwaite (1946), if the samples are taken jointly. For sums of squares of means, or of covariances,
    the end that the bias points to is extended by curvature t^2 bias."""
    bias, variances, freedoms = 0.0, [], []
    for deleted, tokens in samples:
        g, mean = len(deleted), np.mean(deleted)
        bias += (g - 1) * (mean - value)
        variances.append((g - 1) / g * sum((x - mean) ** 2 for x in deleted))
        freedoms.append(max(sum(tokens) ** 2 / sum(m**2 for m in tokens) - 1, 1))
    parts = list(zip(variances, freedoms, strict=True))
    square = sum(t.ppf(0.975, f) ** 2 * v for v, f in parts)
    if joint and sum(variances) > 0:
        together = sum(variances) ** 2 / sum(v**2 / f for v, f in parts)
        square = t.ppf(0.975, together) ** 2 * sum(variances)
    center, half, extension = value - bias, np.sqrt(square), 0
    if curvature:
        extension = curvature * t.ppf(0.975, freedoms[0]) ** 2 * bias
    return Interval(center, center - half + min(extension, 0), center + half + max(extension, 0))


def intervals(
    referee: Callable[[Record], Iterator[Row]], record: Record, curvature: Callable[[tuple], float] = lambda name: 0
) -> dict[tuple, Interval]:
    """The interval of each row that at least five documents reach; all are left out that add to n, and each counts by
    what it adds to n, or to the row's weight. A name is the keys and the metric of a row."""
    whole = known_rows(referee(record))
    without = [
        known_rows(referee(record.without(document)))
        for document in range(len(record.group))
        if (record.document == document).any()
    ]
    found = {}
    for name, row in whole.items():
        rest = [rows[name] for rows in without if name in rows and rows[name].n < row.n]
        if sum(other.size < row.size for other in rest) >= FEWEST:
            sample = Sample([other.value for other in rest], [row.size - other.size for other in rest])
            found[name] = interval_of(row.value, [sample], curvature=curvature(name))
    return found


def known_rows(rows: Iterator[Row]) -> dict[tuple, Row]:
    """Those with a value, by name."""
    return {(*plain(row.keys), row.metric): row for row in rows if row.value is not UNCHECKED}


def differences_from_all(record: Record) -> dict[tuple, Interval]:
    """Of `frequency_difference`: the groups' shares of the tokens are fixed, so that a document is left out of its
    group's frequency only, in the group and in all."""
    groups, found = groups_of(record)[:-1], {}
    for layer in range(len(LAYERS)):
        sizes = {name: place(record, layer, name).n for name in groups}
        for name in groups:
            samples = [_without_each(record, layer, name, other, sizes) for other in groups]
            value = place(record, layer, name).frequency() - place(record, layer, ALL).frequency()
            for expert in range(record.experts):
                parts = [Sample([x[expert] for x in deleted], tokens) for deleted, tokens in samples]
                keys = (LAYERS[layer], name, expert, "frequency_difference")
                found[keys] = interval_of(value[expert], parts)
    return found


def _without_each(record: Record, layer: int, name: str, other: str, sizes: dict[str, int]) -> tuple[list, list]:
    """Frequency of a group less that of all, without each document of the other group in turn."""
    deleted, tokens = [], []
    for part in place(record, layer, other).documents():
        rest = record.without(int(record.document[part.tokens[0]]))
        frequency = {group: place(rest, layer, group).frequency() for group in sizes}
        mean = sum(sizes[group] * frequency[group] for group in sizes) / sum(sizes.values())
        deleted.append(frequency[name] - mean)
        tokens.append(part.n)
    return deleted, tokens


def differences_of_two(record: Record) -> dict[tuple, Interval]:
    """Of `group_differences` of two groups: a document is left out of its group, the other stays as it is."""
    rows = {(*row.keys, row.metric): row for row in group_differences(record)}
    without = {
        document: {(*row.keys, row.metric): row for row in group_differences(record.without(document))}
        for document in range(len(record.group))
    }
    found = {}
    for name, row in rows.items():
        _, *pair, _, _ = name
        samples = []
        for group in pair:
            rest = [rows[name] for document, rows in without.items() if record.group[document] == group]
            samples.append(Sample([other.value for other in rest], [row.n - other.n for other in rest]))
        found[name] = interval_of(row.value, samples, joint=True)
    return found
