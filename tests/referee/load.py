"""Load, recomputed from raw arrays: what `docs/tables.md` and the papers say, in loops."""

from collections.abc import Iterator

import numpy as np

from tests.referee.counting import Place, places, probabilities
from tests.referee.losses import chance_of_loss, loss
from tests.referee.record import Record
from tests.referee.rows import NAN, UNCHECKED, Row


def entropy(share: np.ndarray) -> float:
    """H of shares, nats."""
    return -sum(x * np.log(x) for x in share if x > 0)


def cv_squared(counts: np.ndarray) -> float:
    """Population variance / mean squared (Shazeer et al. 2017)."""
    mean = sum(counts) / len(counts)
    return sum((x - mean) ** 2 for x in counts) / len(counts) / mean**2


def variance_of_uniform_load(at: Place) -> float:
    """Of n_i when each token chooses its number of experts uniformly, independently of others: sum k/E (1 - k/E)."""
    return sum(len(chosen) / at.experts * (1 - len(chosen) / at.experts) for chosen in at.choices())


def balance(record: Record) -> Iterator[Row]:
    for at in places(record):
        f = at.share()
        mean = at.counts().sum() / at.experts
        values = {
            "max_violation": (at.experts * max(f) - 1, UNCHECKED),
            "min_violation": (1 - at.experts * min(f), UNCHECKED),
            "cv_squared": (cv_squared(at.counts()), variance_of_uniform_load(at) / mean**2),
            "gini": (sum(abs(a - b) for a in f for b in f) / (2 * at.experts**2 / at.experts), UNCHECKED),
            "normalized_entropy": (entropy(f) / np.log(at.experts), UNCHECKED),
            "effective_experts": (np.exp(entropy(f)), UNCHECKED),
            "dead_experts": (
                sum(at.counts() == 0),
                at.experts * np.prod([1 - len(c) / at.experts for c in at.choices()]),
            ),
        }
        for metric, (value, null) in values.items():
            yield Row(at.keys, metric, value, null, at.n)


def balance_variants(record: Record) -> Iterator[Row]:
    for at in places(record):
        f, windows = at.share(), at.windows()
        values = {
            "inverse_simpson": (1 / sum(f**2), UNCHECKED),
            "load_chi_squared": (chi_squared(at), at.experts - 1),
            "importance_cv_squared": (
                cv_squared(at.gates()),
                sum(at.experts / len(c) - 1 for c in at.choices()) / at.n**2,
            ),
            "max_violation_batch": (np.mean([at.experts * max(w.share()) - 1 for w in windows]), UNCHECKED),
            "load_balancing_loss_gshard": (gshard(at), chance_of_gshard(at)),
            "load_balancing_loss_sequence": (
                np.mean([loss(w) for w in windows]),
                np.mean([chance_of_loss(w) for w in windows]),
            ),
        }
        for metric, (value, null) in values.items():
            weight = len(windows) if metric in ("max_violation_batch", "load_balancing_loss_sequence") else None
            yield Row(at.keys, metric, value, null, at.n, weight=weight)


def chi_squared(at: Place) -> float:
    """Chi-square of the loads against even ones, scaled so that uniform routing gives E - 1 on average."""
    even = at.counts().sum() / at.experts
    raw = sum((n - even) ** 2 / even for n in at.counts())
    return raw * (at.experts - 1) / (at.experts * variance_of_uniform_load(at) / even)


def gshard(at: Place) -> float:
    """Mean over experts of (share of first choices) x P (Lepikhin et al. 2020)."""
    first = np.zeros(at.experts)
    for chosen in at.choices():
        first[chosen[0]] += 1 / at.n
    return sum(first * at.probability()) / at.experts


def chance_of_gshard(at: Place) -> float:
    """Its mean when each token's experts are permuted; a token's first choice is its likeliest expert."""
    largest = [max(probabilities(at.record, at.layer, token)) for token in at.tokens]
    return sum(p + (at.n - 1) / at.experts for p in largest) / at.n**2 / at.experts


def expert_load(record: Record) -> Iterator[Row]:
    for at in places(record):
        values = {
            "share": (at.share(), 1 / at.experts),
            "selection_frequency": (at.frequency(), at.counts().sum() / at.n / at.experts),
            "gate_share": (at.gates() / at.n, 1 / at.experts),
            "mean_probability": (at.probability(), 1 / at.experts),
        }
        for metric, (value, null) in values.items():
            for expert in range(at.experts):
                yield Row((*at.keys, expert), metric, value[expert], null, at.n)


def expert_relevance(record: Record) -> Iterator[Row]:
    """ESFT, eqs. 5 and 6, with documents as samples."""
    for at in places(record):
        documents = at.documents()
        values = {
            "average_gate_score": np.mean([d.gates() / d.n for d in documents], axis=0),
            "token_selection_ratio": np.mean([d.share() for d in documents], axis=0),
        }
        for metric, value in values.items():
            for expert in range(at.experts):
                yield Row((*at.keys, expert), metric, value[expert], UNCHECKED, at.n, weight=len(documents))


def load_by_rank(record: Record) -> Iterator[Row]:
    for at in places(record):
        for rank in range(at.chosen):
            ranked = [chosen[rank] for chosen in at.choices() if len(chosen) > rank]
            for expert in range(at.experts):
                yield Row(
                    (*at.keys, expert, rank),
                    "rank_share",
                    ranked.count(expert) / at.n,
                    len(ranked) / at.n / at.experts,
                    at.n,
                )


QUANTITIES = ("router_entropy", "top1_probability", "topk_mass", "selection_margin", "order_margin")


def confidence(at: Place) -> dict[str, list[float]]:
    """The quantities of each token; a margin only where an expert was not chosen."""
    values = {name: [] for name in QUANTITIES}
    for token, chosen in zip(at.tokens, at.choices(), strict=True):
        p = probabilities(at.record, at.layer, token)
        z = [float(x) for x in at.record.logits[at.layer, token]]
        others = [z[expert] for expert in range(at.experts) if expert not in chosen]
        values["router_entropy"].append(entropy(p) / np.log(at.experts))
        values["top1_probability"].append(max(p))
        values["topk_mass"].append(sum(p[expert] for expert in chosen))
        if others:
            values["selection_margin"].append(min(z[expert] for expert in chosen) - max(others))
        values["order_margin"].append(sorted(z)[-1] - sorted(z)[-2])
    return values


WIDTHS = dict.fromkeys(QUANTITIES, 1 / 128) | dict.fromkeys(("selection_margin", "order_margin"), 1 / 8)
"""Of the 128 bins of each quantity, which begin at 0."""
LEVELS = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}


def router_confidence(record: Record) -> Iterator[Row]:
    for at in places(record):
        alike = [len(chosen) / at.experts for chosen in at.choices()]
        nulls = {"router_entropy": 1, "top1_probability": 1 / at.experts, "selection_margin": 0, "order_margin": 0}
        for metric, values in confidence(at).items():
            null = nulls.get(metric, np.mean(alike))
            yield Row((*at.keys, "mean"), metric, np.mean(values), null, len(values))
            for name, level in LEVELS.items():
                null = nulls.get(metric, np.quantile(alike, level, method="inverted_cdf"))
                value = binned_quantile(values, WIDTHS[metric], level)
                yield Row((*at.keys, name), metric, value, null, len(values))


def bins_of(values: list[float], width: float) -> list[int]:
    """The bin of each value; the outer bins hold what lies outside."""
    return [min(max(int(np.floor(value / width)), 0), 127) for value in values]


def binned_quantile(values: list[float], width: float, level: float) -> float:
    """Where the values of the bins, spread evenly in each, reach a share of all."""
    bins, before = bins_of(values, width), 0
    for number in range(128):
        inside = bins.count(number)
        if inside and before + inside >= level * len(values):
            return (number + (level * len(values) - before) / inside) * width
        before += inside
    raise AssertionError("unreachable")


def router_confidence_histogram(record: Record) -> Iterator[Row]:
    for at in places(record):
        for metric, values in confidence(at).items():
            width, bins = WIDTHS[metric], bins_of(values, WIDTHS[metric])
            for number in sorted(set(bins)):
                keys = (*at.keys, number, number * width, (number + 1) * width)
                yield Row(keys, metric, bins.count(number) / len(bins), NAN, len(bins))
