"""The paths of tokens through all layers: `paths`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks, groups_of
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import INDEPENDENT_LAYERS, NOT_SMOOTH, POSITIVE, SHARE
from mixtral_probe.tables.scope import selected_rows, tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
TOP = 20
_SHUFFLES = 5


@of_trace
def paths(trace: Trace, *, by: str | None = None, top: int = TOP, include_special: bool = False) -> pd.DataFrame:
    """Return expert paths, the first choices of a token in all layers: the commonest, and the number of different ones.

    Columns: group, place, path, metric, value, corrected, low, high, null, n, scope. A path is written 3-0-7: expert 3
    in the first layer with experts, and so on; in a selection it goes through the layers in which anything is selected.
    Only tokens that went to experts in all of its layers count. Rows without a path are about all paths; their null
    shuffles each layer's choices among the tokens (5 times), which keeps the loads and makes the layers independent.

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
        members = np.arange(len(document)) if number is None else np.flatnonzero(group[document] == number)
        parts += _group_rows(name, routes.of(members), top)
    return tidy(parts, SPEC)


def _layers(trace: Trace, first: NDArray[np.int16], counted: NDArray[np.bool_]) -> Places:
    """Return the layers of a path, as rows of the trace's arrays: all, or those in which anything is selected."""
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
        """Return the routes of a part of the tokens."""
        return self._replace(first=self.first[:, tokens], block=self.block[tokens])


def _group_rows(name: str, routes: _Routes, top: int) -> list[pd.DataFrame]:
    """Return the rows of one group."""
    first = routes.first
    of_all_paths = ("path_entropy_bits", "distinct_paths")
    if not first.shape[1]:
        return [missing_rows({"group": name}, metric, (1,), "no tokens") for metric in of_all_paths]
    common, counts, place = metrics.path_counts(first)
    values, nulls = (float(metrics.entropy_bits(counts)), len(counts)), _shuffled(first)
    scope = f"{routes.scope}; {NOT_SMOOTH}"
    parts = [
        rows({"group": name}, metric, np.array([value]), null=null, n=first.shape[1], scope=scope)
        for metric, value, null in zip(of_all_paths, values, nulls, strict=True)
    ]
    return [*parts, _share_rows(name, routes, common[:top], place)]


def _share_rows(name: str, routes: _Routes, common: NDArray[np.int64], place: NDArray[np.int64]) -> pd.DataFrame:
    """Return the share of each of the commonest paths [P, L]; place: [n] each token's path, 0 = the commonest."""
    sizes = np.bincount(routes.block, minlength=routes.blocks.number)  # [Bk]
    by_block = np.zeros((len(sizes), len(common)), np.int64)
    listed = place < len(common)
    np.add.at(by_block, (routes.block[listed], place[listed]), 1)
    estimate = leave_one_out(
        metrics.ratio, (by_block, sizes[:, None]), sizes, folded=routes.blocks.folded, bounds=SHARE, events=by_block
    )
    loads = metrics.chosen_mask(routes.first, routes.experts).mean(1)  # [L, E]
    null = np.take_along_axis(loads.T, common, 0).prod(-1) if len(common) else np.zeros(0)
    texts = np.array(["-".join(map(str, path)) for path in common], dtype=object)
    keys = {"group": name, "place": np.arange(len(common)), "path": texts}
    return estimate_rows(keys, "path_share", estimate, null, sizes.sum(), routes.scope)


def _shuffled(first: NDArray[np.int16]) -> tuple[float, float]:
    """Return mean entropy and number of paths with each layer's choices shuffled among the tokens (fixed seed)."""
    generator = np.random.default_rng(0)
    shuffles = [metrics.path_counts(generator.permuted(first, axis=1))[1] for _ in range(_SHUFFLES)]
    return float(np.mean([metrics.entropy_bits(counts) for counts in shuffles])), float(np.mean([*map(len, shuffles)]))


SPEC = TableSpec(
    function=paths,
    source="trace",
    description="The commonest paths of tokens through all layers.",
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
            "entropy of the paths, bits",
            bounds=POSITIVE,
            null=INDEPENDENT_LAYERS,
        ),
        "distinct_paths": Metric(
            "how many different paths there are; null: choices shuffled",
            "different paths",
            ",.0f",
            POSITIVE,
            INDEPENDENT_LAYERS,
        ),
    },
    figures=(Drawing("paths"),),
    narrows=True,
)
