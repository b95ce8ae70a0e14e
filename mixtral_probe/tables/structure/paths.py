"""The ways tokens take through all layers: `paths`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks, groups_of
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import INDEPENDENT_LAYERS, NOT_SMOOTH, POSITIVE, SHARE
from mixtral_probe.tables.scope import selected_rows, tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
TOP = 20
_SHUFFLES = 5


def paths(trace: Trace, *, by: str | None = None, top: int = TOP, include_special: bool = False) -> pd.DataFrame:
    """Return expert paths: the first choices of a token in all layers, the commonest of them and how many there are.

    Columns: group, place, path, metric, value, corrected, low, high, null, n, scope. A path is written 3-0-7: expert 3
    in the first layer with experts, and so on; in a selection it goes through the layers in which anything is selected.
    Tokens count that went to experts in all of its layers. Rows without a path are about all paths; their null shuffles
    each layer's choices among the tokens (5 times), which keeps the loads and cuts the layers apart.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        top: paths listed for each group.
        include_special: count special tokens too.

    Raises:
        InputError: no such label.
    """
    groups, group = groups_of(trace, by)
    counted = selected_rows(trace, include_special)
    first = np.asarray(trace.expert_ids[..., 0])
    layers = _layers(trace, first, counted)
    tokens = np.flatnonzero(counted & (first[layers] >= 0).all(0))
    document, blocks = trace.tokens["document"].to_numpy()[tokens], Blocks.of(trace.documents["id"])
    scope = f"first choices through {_layers_scope(trace, layers)}; {tokens_scope(trace, include_special)}"
    routes = _Routes(first[layers][:, tokens], blocks.of_document[document], blocks, trace.num_experts, scope)
    parts = []
    for number, name in [*enumerate(groups), *([(None, ALL)] if by is not None else [])]:
        own = np.arange(len(document)) if number is None else np.flatnonzero(group[document] == number)
        parts += _group_rows(name, routes.of(own), top)
    return tidy(parts, SPEC)


def _layers(trace: Trace, first: NDArray[np.int16], counted: NDArray[np.bool_]) -> Places:
    """Where in the trace the layers of a path stand: all, or those in which anything is selected."""
    if trace.where is None:
        return np.arange(len(first))
    return np.flatnonzero(((first >= 0) & counted).any(1))


def _layers_scope(trace: Trace, layers: Places) -> str:
    if len(layers) == trace.num_layers:
        return f"all {len(layers)} layers"
    return f"the selected layers {', '.join(str(trace.layers[layer]) for layer in layers)}"


class _Routes(NamedTuple):
    """First choices of some tokens."""

    first: NDArray[np.int16]
    """[L, n]"""
    block: Places
    """[n]"""
    blocks: Blocks
    experts: int
    scope: str

    def of(self, tokens: Places) -> "_Routes":
        """Those of a part of the tokens."""
        return self._replace(first=self.first[:, tokens], block=self.block[tokens])


def _group_rows(name: str, routes: _Routes, top: int) -> list[pd.DataFrame]:
    """The rows of one group."""
    first = routes.first
    whole = ("path_entropy_bits", "distinct_paths")
    if not first.shape[1]:
        return [missing_rows({"group": name}, metric, (1,), "no tokens") for metric in whole]
    ways, counts, place = metrics.path_counts(first)
    values, nulls = (float(metrics.entropy_bits(counts)), len(counts)), _shuffled(first)
    scope = f"{routes.scope}; {NOT_SMOOTH}"
    parts = [
        rows({"group": name}, metric, np.array([value]), null=null, n=first.shape[1], scope=scope)
        for metric, value, null in zip(whole, values, nulls, strict=True)
    ]
    return [*parts, _share_rows(name, routes, ways[:top], place)]


def _share_rows(name: str, routes: _Routes, ways: NDArray[np.int64], place: NDArray[np.int64]) -> pd.DataFrame:
    """Rows of the shares of the commonest paths [P, L]; place: [n] which path is whose, from the commonest."""
    sizes = np.bincount(routes.block, minlength=routes.blocks.number)  # [Bk]
    by_block = np.zeros((len(sizes), len(ways)), np.int64)
    common = place < len(ways)
    np.add.at(by_block, (routes.block[common], place[common]), 1)
    found = leave_one_out(metrics.ratio, (by_block, sizes[:, None]), sizes, folded=routes.blocks.folded, bounds=SHARE)
    loads = metrics.chosen_mask(routes.first, routes.experts).mean(1)  # [L, E]
    null = np.take_along_axis(loads.T, ways, 0).prod(-1) if len(ways) else np.zeros(0)
    texts = np.array(["-".join(map(str, way)) for way in ways], dtype=object)
    keys = {"group": name, "place": np.arange(len(ways)), "path": texts}
    return estimate_rows(keys, "path_share", found, null, sizes.sum(), routes.scope)


def _shuffled(first: NDArray[np.int16]) -> tuple[float, float]:
    """Mean entropy and number of paths with each layer's choices shuffled among the tokens; always the same."""
    generator = np.random.default_rng(0)
    drawn = [metrics.path_counts(generator.permuted(first, axis=1))[1] for _ in range(_SHUFFLES)]
    return float(np.mean([metrics.entropy_bits(counts) for counts in drawn])), float(np.mean([*map(len, drawn)]))


SPEC = TableSpec(
    function=paths,
    source="trace",
    description="The commonest ways of tokens through all layers.",
    keys=("group", "place", "path"),
    metrics={
        "path_share": Metric(
            "share of tokens whose first choices are `path`; null: the product of the layers' shares",
            "share of tokens",
            ".2%",
            SHARE,
            INDEPENDENT_LAYERS,
        ),
        "path_entropy_bits": Metric(
            "plug-in entropy of the paths, bits, too low where tokens are few; null: choices shuffled",
            "entropy of the ways, bits",
            bounds=POSITIVE,
            null=INDEPENDENT_LAYERS,
        ),
        "distinct_paths": Metric(
            "how many different paths there are; null: choices shuffled",
            "different ways",
            ",.0f",
            POSITIVE,
            INDEPENDENT_LAYERS,
        ),
    },
    figures=(Drawing("paths"),),
    narrows=True,
)
