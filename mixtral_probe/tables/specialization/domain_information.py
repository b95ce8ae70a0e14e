"""What a document's topic tells about the expert, compared with shuffled labels: `domain_information`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import ALL, LABEL, Blocks, document_keys, groups_of
from mixtral_probe.tables.frame import empty, missing_rows, rows, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.leave_one_out import Estimate, estimate_rows, recount, without_interval
from mixtral_probe.tables.phrases import RARE_TYPES
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.specialization.information import BITS, INFORMATION
from mixtral_probe.tables.specialization.label_shuffles import LABELS_SHUFFLED, P_VALUE, TESTS, LabelTest
from mixtral_probe.tables.specialization.layer_tokens import layer_tokens
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
SHUFFLES = 99
_ABOVE = "mutual_information_bits_above_shuffles"
_ONE_EACH = "every group is one document, so that shuffled labels change nothing"


@of_trace
def domain_information(
    trace: Trace, *, by: str | None = None, shuffles: int = SHUFFLES, include_special: bool = False
) -> pd.DataFrame:
    """Return what the label of a document tells about the chosen expert, alone and among tokens of one type.

    Columns: layer, group, variable, min_count, metric, value, corrected, low, high, null, n, scope. Each of a token's K
    experts counts 1/K. Documents differ from one another whatever their topic, and tokens of one document resemble each
    other, so chance is what the same documents give when their labels are shuffled: the permutation test of
    exchangeable documents, whose p-values are uniform when the label does not matter. Shuffling tokens, or the bias of
    `mutual_information`, takes every difference between documents for one between topics.

    Among tokens of one type, most types are too rare for an interval. The rows with a `min_count` above 1 are about
    types with five choices for each expert in each group (`metrics.enough_tokens`); theirs is corrected for bias.
    Intervals take the groups' shares of the tokens as fixed, and need two documents of each group. What is above the
    shuffles is a low estimate where the label does matter, since groups of mixed documents differ, and where one group
    has few or short documents, since shuffled groups are more alike in size; `mutual_information` measures chance at
    the spread of the documents within the groups, which is not known for each type of token.

    The p-values of a variable are standardised and pooled over layers (`metrics.studentised_p_values`).

    Of a selection only the selected tokens count, for `min_count` too, and only the documents that have some.

    Args:
        trace: the trace.
        by: a label of the documents; None for "domain", and where they lack it the table is empty and `attrs["note"]`
            says so.
        shuffles: how many, at least 1.
        include_special: count special tokens too.

    Raises:
        InputError: no such label, or no shuffle.
    """
    if shuffles < 1:
        raise InputError(f"shuffles must be at least 1, since chance is what they show, got {shuffles}")
    if by is None and LABEL not in trace.labels:
        return empty(SPEC, f"documents have no label {LABEL!r}; name another with by=")
    scope = f"one layer; {tokens_scope(trace, include_special)}; label {by or LABEL}"
    by_variable: list[list[_Shuffled]] = [[], [], []]
    for layers, counted in layer_tokens(trace, include_special):
        variables = [*_variables(trace, np.flatnonzero(counted), by or LABEL, scope)]
        for layer in layers:
            for shuffled, variable in zip(by_variable, variables, strict=True):
                shuffled.append(_Shuffled.of(trace, layer, variable, shuffles))
    return tidy([part for layers in by_variable for part in _rows(layers)], SPEC)


class _GroupBlocks(NamedTuple):
    """The blocks of documents of some tokens, separate for each group."""

    of_token: Places
    """[n]"""
    group: Places
    """[number] the group of each block."""
    folded: bool
    """Whether a block may hold several documents."""

    @classmethod
    def of(cls, trace: Trace, tokens: Places, group: Places) -> "_GroupBlocks":
        """Return the blocks of these rows of a trace; group: [documents]."""
        blocks, document = Blocks.of(trace.documents["id"]), trace.tokens["document"].to_numpy()[tokens]
        cell = group[document] * blocks.number + blocks.of_document[document]
        cells, of_token = np.unique(cell, return_inverse=True)
        return cls(of_token, cells // blocks.number, blocks.folded)


class _Tokens(NamedTuple):
    """Tokens of a trace, counted separately for each pair of a document and a kind of token."""

    rows: Places
    """[n] the tokens, as rows of the trace."""
    pair: Places
    """[n] the pair of each."""
    document: Places
    """[P] the document of each pair."""
    kind: Places
    """[P] and its kind, 0 to V - 1."""
    group: Places
    """[documents] 0 to G - 1."""
    keys: NDArray[np.uint64]
    """[documents] hashes of their ids."""

    @classmethod
    def of(cls, trace: Trace, tokens: Places, kind: NDArray[np.int64], group: Places) -> "_Tokens":
        """Return these rows of a trace, each of a kind [n] such as its type."""
        document = trace.tokens["document"].to_numpy()[tokens].astype(np.int64)
        pair, owner, kind = _pairs(document, np.unique(kind, return_inverse=True)[1])
        # Kinds that occur in one document only do not depend on groups: those of a document become one, for speed.
        alone = np.bincount(kind, minlength=1)[kind] == 1
        kind = np.where(alone, kind.max(initial=0) + 1 + owner, kind)
        merged, owner, kind = _pairs(owner, np.unique(kind, return_inverse=True)[1])
        return cls(tokens, merged[pair], owner, kind, group, document_keys(trace.documents["id"]))

    @property
    def documents_of_groups(self) -> Counts:
        """[G] documents with tokens of each group."""
        return np.bincount(self.group[np.unique(self.document)])

    def joint(self, counts: Counts, group: Places) -> Floats:
        """[V, G, E] of the counts [P, E] of pairs, with the documents in these groups [documents]."""
        groups = int(group.max()) + 1
        size = (int(self.kind.max()) + 1) * groups
        cell = self.kind * groups + group[self.document]
        joint = np.stack([np.bincount(cell, weights=column, minlength=size) for column in counts.T], -1).astype(
            np.float64
        )
        return joint.reshape(-1, groups, counts.shape[1])

    def bits(self, sizes: Floats, counts: Counts) -> float:
        """Return the bits the groups tell about the expert within each kind; sizes: [G] the weight each group keeps."""
        joint = self.joint(counts, self.group)
        joint *= metrics.ratio(sizes, joint.sum((0, 2)))[:, None]
        return float(metrics.conditional_mutual_information_bits(joint))

    def shuffled_bits(self, counts: Counts, shuffles: int) -> Floats:
        """[shuffles] the bits when the documents that have tokens exchange their groups, seeded by their ids."""
        documents, group, bits = np.unique(self.document), self.group.copy(), []
        for order in metrics.shuffled_labels(self.group[documents], shuffles, seed=self.keys[documents]):
            group[documents] = order
            bits.append(float(metrics.conditional_mutual_information_bits(self.joint(counts, group))))
        return np.array(bits)


def _pairs(document: NDArray[np.int64], kind: Places) -> tuple[Places, Places, Places]:
    """[n] the number of each one's pair, of those that occur, and [P] the document and the kind of each pair."""
    kinds = int(kind.max(initial=0)) + 1
    pairs, pair = np.unique(document * kinds + kind, return_inverse=True)
    return pair, pairs // kinds, pairs % kinds


class _Variable(NamedTuple):
    """The tokens that the label is compared on: all alike, or those of one type."""

    name: str
    min_count: Any
    """An integer, or NA."""
    tokens: _Tokens
    blocks: _GroupBlocks | None
    """None where an interval would be wrong."""
    scope: str


def _variables(trace: Trace, counted: Places, by: str, scope: str) -> Iterator[_Variable]:
    names, group = groups_of(trace, by)
    token, among = trace.tokens["token_id"].to_numpy(np.int64), f"{scope}, among tokens of one type"
    known = counted[token[counted] >= 0]
    least = metrics.enough_tokens(len(names) * trace.num_experts, trace.num_experts_per_tok)
    often = known[np.bincount(token[known], minlength=1)[token[known]] >= least]
    every = _Tokens.of(trace, counted, np.zeros(len(counted), np.int64), group)
    typed, frequent = (_Tokens.of(trace, rows, token[rows], group) for rows in (known, often))
    yield _Variable("domain", pd.NA, every, _GroupBlocks.of(trace, counted, group), scope)
    yield _Variable("domain|token", 1, typed, None, f"{among}; {RARE_TYPES}")
    yield _Variable("domain|token", least, frequent, _GroupBlocks.of(trace, often, group), among)


class _Shuffled(NamedTuple):
    """A variable in one layer, with labels as they are and shuffled."""

    keys: dict[str, Any]
    scope: str
    n: int
    """Tokens."""
    missing: str
    """Why there is no value; empty where there is one."""
    estimate: Estimate
    chance: Floats
    """[shuffles] bits of shuffled labels."""
    arrangements: int
    """Distinct arrangements of the labels."""

    @classmethod
    def of(cls, trace: Trace, layer: int, variable: _Variable, shuffles: int) -> "_Shuffled":
        keys = {"layer": trace.layers[layer], "group": ALL, "variable": variable.name, "min_count": variable.min_count}
        ids = np.asarray(trace.expert_ids[layer])[variable.tokens.rows].astype(np.intp)
        n = int((ids[:, 0] >= 0).sum()) if ids.size else 0
        if why := _missing(variable, n):
            return cls(keys, variable.scope, n, why, without_interval(np.nan), np.full(shuffles, np.nan), 1)
        estimated, chance = _estimate(variable, ids, trace.num_experts, shuffles)
        arrangements = metrics.distinct_arrangements(variable.tokens.documents_of_groups, interchangeable=True)
        return cls(keys, variable.scope, n, "", estimated, chance, arrangements)

    def rows(self) -> list[pd.DataFrame]:
        """Return the rows of bits."""
        if self.missing:
            return [missing_rows(self.keys, metric, (1,), self.missing) for metric in (BITS, _ABOVE)]
        scope = f"{self.scope}; labels shuffled over documents {len(self.chance)} times"
        alone, null = f"{scope}; no interval: the shuffles are of these texts", self.chance.mean()
        return [
            estimate_rows(self.keys, BITS, self.estimate, null, self.n, scope),
            rows(self.keys, _ABOVE, self.estimate.value - null, null=0.0, n=self.n, scope=alone),
        ]


def _rows(layers: list[_Shuffled]) -> list[pd.DataFrame]:
    """Return the rows of one variable, whose layers are tested together."""
    values = np.array([[float(layer.estimate.value), *layer.chance] for layer in layers]).T  # [1 + shuffles, L]
    test = LabelTest.of(values, [layer.arrangements for layer in layers], "all layers of this variable")
    keys = {name: np.array([layer.keys[name] for layer in layers], object) for name in layers[0].keys}
    tests = test.rows(keys, [layer.n for layer in layers], layers[0].scope, why=[layer.missing for layer in layers])
    return [*(part for layer in layers for part in layer.rows()), *tests]


def _missing(variable: _Variable, n: int) -> str:
    """Say why a value is missing; empty where it is not."""
    tokens, least = variable.tokens, variable.min_count
    if not n:
        return "no tokens" if least is pd.NA else f"no type has {least} tokens, or token ids were not recorded"
    documents = tokens.documents_of_groups
    if (documents > 0).sum() < 2:
        return "tokens of one group alone"
    return _ONE_EACH if documents.max() == 1 else ""


def _estimate(variable: _Variable, ids: Places, experts: int, shuffles: int) -> tuple[Estimate, Floats]:
    """Return the bits of the choices [n, K], and [shuffles] those of shuffled labels."""
    tokens, blocks = variable.tokens, variable.blocks

    def count(places: Places) -> Counts:
        cell = (tokens.pair[places, None] * experts + ids[places])[ids[places] >= 0]
        return np.bincount(cell, minlength=len(tokens.kind) * experts).reshape(-1, experts)

    counts = count(np.arange(len(ids)))
    chance = tokens.shuffled_bits(counts, shuffles)
    bits = partial(tokens.bits, tokens.joint(counts, tokens.group).sum((0, 2)))
    if blocks is None:
        return without_interval(bits(counts)), chance
    strata, bounds = blocks.group, (0.0, float(np.log2(experts)))
    number, folded = len(strata), blocks.folded
    return recount(bits, count, blocks.of_token, number, folded=folded, bounds=bounds, strata=strata), chance


SPEC = TableSpec(
    function=domain_information,
    source="trace",
    description="What a document's domain tells about the expert, compared with shuffled labels.",
    keys=("layer", "group", "variable", "min_count"),
    metrics={
        BITS: replace(
            INFORMATION[BITS],
            meaning="plug-in information of the label about the expert, bits; null: labels shuffled",
        ),
        _ABOVE: Metric(
            "the same less the mean of the shuffles, bits: rather too low; null 0",
            "information above the shuffles, bits",
            null=LABELS_SHUFFLED,
        ),
    }
    | TESTS,
    figures=(Drawing("domain_information", {"metric": BITS}), Drawing("domain_information", {"metric": P_VALUE})),
    narrows=True,
)
