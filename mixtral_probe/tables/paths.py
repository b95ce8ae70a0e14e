"""The ways tokens take through all layers: `paths`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, counted_rows, groups_of
from mixtral_probe.tables.frame import estimate, estimate_rows, missing_rows, rows, tidy
from mixtral_probe.tables.jackknifed import Blocks
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
PATHS = {
    "path_share": "share of tokens whose first choices are `path`; null: the product of the layers' shares",
    "path_entropy_bits": "plug-in entropy of the paths, bits, too low where tokens are few; null: choices shuffled",
    "distinct_paths": "how many different paths there are; null: choices shuffled",
}
KEYS = ("group", "place", "path")
TOP = 20
_SHUFFLES = 5


def paths(trace: Trace, *, by: str | None = None, top: int = TOP, include_special: bool = False) -> pd.DataFrame:
    """Expert paths: the first choices of a token in all layers, the commonest of them and how many there are.

    Columns: group, place, path, metric, value, low, high, null, n, scope. A path is written 3-0-7: expert 3 in the
    first layer with experts, and so on. Rows without a path are about all paths; their null shuffles each layer's
    choices among the tokens (5 times), which keeps the loads and cuts the layers apart.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        top: paths listed for each group.
        include_special: count special tokens too.

    Raises:
        InputError: no such label.
    """
    groups, group = groups_of(trace, by)
    first = np.asarray(trace.expert_ids[..., 0])
    counted = np.flatnonzero(counted_rows(trace, include_special) & (first >= 0).all(0))
    document = trace.tokens["document"].to_numpy()[counted]
    blocks, first = Blocks.of(trace, counted), first[:, counted]
    scope = f"first choices through all {trace.num_layers} layers; " + (
        "all tokens" if include_special else "special tokens out"
    )
    parts = []
    for number, name in [*enumerate(groups), *([(None, ALL)] if by is not None else [])]:
        own = np.arange(len(document)) if number is None else np.flatnonzero(group[document] == number)
        block, limits = blocks.of_token[own], (top, trace.num_experts)
        sizes = np.bincount(block, minlength=blocks.number)
        parts += _of_group(name, first[:, own], block, sizes, limits, blocks.folded, scope)
    return tidy(parts, KEYS)


def _of_group(
    name: str,
    first: NDArray[np.int16],
    block: Places,
    sizes: NDArray[np.int64],
    limits: tuple[int, int],
    folded: bool,
    scope: str,
) -> list[pd.DataFrame]:
    """The rows of one group, from its tokens' first choices [L, T]."""
    tokens, (top, experts) = first.shape[1], limits
    whole = ("path_entropy_bits", "distinct_paths")
    if not tokens:
        return [missing_rows({"group": name}, metric, (1,), "no tokens") for metric in whole]
    ways, counts, place = metrics.path_counts(first)
    smooth = f"{scope}; no interval: not smooth"
    chance = _shuffled(first)
    parts = [
        rows({"group": name}, metric, np.array([value]), null=null, n=tokens, scope=smooth)
        for metric, value, null in zip(whole, (float(metrics.entropy_bits(counts)), len(counts)), chance, strict=True)
    ]
    shown = min(top, len(counts))
    common = place < shown
    by_block = np.zeros((len(sizes), shown), np.int64)
    np.add.at(by_block, (block[common], place[common]), 1)
    deleted = metrics.ratio(counts[:shown] - by_block, (tokens - sizes)[:, None])
    found = estimate(counts[:shown] / tokens, deleted, sizes, folded, (0.0, 1.0))
    loads = metrics.chosen_mask(first, experts).mean(1)  # [L, E]
    null = np.take_along_axis(loads.T, ways[:shown], 0).prod(-1) if shown else np.zeros(0)
    texts = np.array(["-".join(map(str, way)) for way in ways[:shown]], dtype=object)
    listed = {"group": name, "place": np.arange(shown), "path": texts}
    return [*parts, estimate_rows(listed, "path_share", found, null, np.int64(tokens), scope)]


def _shuffled(first: NDArray[np.int16]) -> tuple[float, float]:
    """Mean entropy and number of paths with each layer's choices shuffled among the tokens; always the same."""
    generator = np.random.default_rng(0)
    drawn = [metrics.path_counts(generator.permuted(first, axis=1))[1] for _ in range(_SHUFFLES)]
    return float(np.mean([metrics.entropy_bits(counts) for counts in drawn])), float(np.mean([*map(len, drawn)]))
