"""How often the intervals of tables hold the truth: `python -m tests.support.coverage --runs 1000`.

Documents are drawn from a population whose documents differ: each has its own taste in experts in every layer, which
its tokens follow, and of two groups one likes expert 0 more. The truth of a row is its value in a sample of 6,000 such
documents, whose error is small beside the intervals; of a metric that depends on the number of documents by its
definition it is the mean over all samples.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace

LAYERS, EXPERTS, CHOSEN, WORDS = 2, 4, 2, 12


@dataclass(frozen=True)
class Population:
    """Documents whose tokens resemble each other."""

    length: int
    """Tokens of a document, in the middle."""
    spread: float = 0.0
    """Standard deviation of the logarithm of the length."""
    taste: float = 0.7
    """Standard deviation of a document's logits."""
    first_share: float = 0.5
    """Share of the documents that are of the first group."""

    def sample(self, rng: np.random.Generator, documents: int) -> Trace:
        """Draw documents; the groups have fixed numbers of them."""
        sizes = np.maximum(np.exp(rng.normal(np.log(self.length), self.spread, documents)).astype(int), 8)
        owner = np.repeat(np.arange(documents), sizes)
        group = (np.arange(documents) >= round(documents * self.first_share)).astype(int)
        words = rng.choice(WORDS, len(owner), p=_WORD_SHARE)
        taste = rng.normal(size=(LAYERS, documents, EXPERTS)) * self.taste
        taste[..., 0] += 0.5 * group
        logits = taste[:, owner] + _WORD_TASTE[words] + rng.normal(size=(LAYERS, len(owner), EXPERTS))
        ids = np.argsort(-logits, axis=-1)[..., :CHOSEN].astype(np.int16)
        weights = np.exp(np.take_along_axis(logits, ids.astype(int), -1))
        return Trace.from_arrays(
            expert_ids=ids,
            router_logits=logits.astype(np.float32),
            expert_weights=(weights / weights.sum(-1, keepdims=True)).astype(np.float32),
            token_ids=words,
            document=owner,
            documents=[{"id": f"{rng.integers(1 << 60)}", "domain": "ab"[one]} for one in group],
        )


_WORD_SHARE = 1 / np.arange(1, WORDS + 1) / (1 / np.arange(1, WORDS + 1)).sum()
_WORD_TASTE = np.random.default_rng(5).normal(size=(WORDS, EXPERTS))
SCENARIOS = {
    "5 documents": (Population(60, first_share=1.0), 5),
    "12 documents": (Population(60), 12),
    "12 uneven documents": (Population(60, spread=0.8), 12),
    "40 documents": (Population(60), 40),
    "300 documents in blocks": (Population(30), 300),
}
"""Name, population, and how many documents a sample has."""
TABLES = (
    "expert_load", "load_by_rank", "balance", "balance_variants", "expert_relevance", "balance_loss",
    "balance_loss_breakdown", "router_confidence", "repetition", "coactivation", "transitions", "mutual_information",
    "domain_specialization", "group_divergence", "group_differences", "layer_differences", "vocabulary_specialization",
    "capacity_simulation", "cache_simulation", "placement_simulation", "paths", "context_information",
)  # fmt: skip
"""Those with intervals that a trace without attention has."""


def intervals(trace: Trace, names: tuple[str, ...] = TABLES) -> pd.DataFrame:
    """Return value, low and high of every row with an interval, by table, metric and keys."""
    stats, parts = RoutingStats.from_trace(trace, by="domain"), []
    for name in names:
        spec = tables.TABLES[name]
        table = spec.function(stats) if spec.source == "stats" else spec.function(trace, by="domain")
        if table.empty:
            continue
        keys = [key for key in spec.keys if key != "place"]
        key = table[keys].astype(object).where(table[keys].notna(), "").astype(str).agg("|".join, axis=1)
        columns = {"table": name, "metric": table["metric"], "key": key}
        parts.append(pd.DataFrame({**columns, **{end: table[end].astype(float) for end in ("value", "low", "high")}}))
    return pd.concat(parts).set_index(["table", "metric", "key"])


ABOUT_VALUE = ("vocabulary_specialization_crossval",)
"""Metrics that documents are found with and tested on, so that the truth is about as many documents."""


def hits(name: str, runs: int, names: tuple[str, ...] = TABLES, seed: int = 0) -> pd.DataFrame:
    """Return for every run which rows have an interval, and which of these hold the truth."""
    population, documents = SCENARIOS[name]
    truth = intervals(population.sample(np.random.default_rng(10**6), 6000), names)["value"]
    samples = [
        intervals(population.sample(np.random.default_rng([seed, run]), documents), names).assign(run=run)
        for run in range(runs)
    ]
    every = pd.concat(samples)
    mean = every.groupby(level=[0, 1, 2])["value"].mean()
    own = mean.index.get_level_values("metric").isin(ABOUT_VALUE)
    truth = pd.concat([truth[~truth.index.get_level_values("metric").isin(ABOUT_VALUE)], mean[own]])
    every["truth"] = truth.reindex(every.index)
    every = every.dropna()
    inside = (every["low"] <= every["truth"] + 1e-12) & (every["truth"] <= every["high"] + 1e-12)
    return every.assign(hit=inside)


def coverage(name: str, runs: int, names: tuple[str, ...] = TABLES) -> pd.DataFrame:
    """Return the share of intervals that hold the truth, by table and metric, with its simulation error.

    Rows of one run depend on one another, so the error is that of the means of the runs.
    """
    every = hits(name, runs, names)
    by_run = every.groupby(["table", "metric", "run"], sort=False)["hit"].mean().unstack()
    number = by_run.notna().sum(axis=1)
    return pd.DataFrame(
        {"coverage": by_run.mean(axis=1), "error": by_run.std(axis=1) / np.sqrt(number), "runs": number}
    )


def main() -> None:
    """Print a table of coverage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--scenario", choices=[*SCENARIOS], action="append")
    options = parser.parse_args()
    for name in options.scenario or SCENARIOS:
        print(f"\n{name}\n{coverage(name, options.runs).round(3).to_string()}", flush=True)


if __name__ == "__main__":
    main()
