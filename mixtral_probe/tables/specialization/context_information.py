"""What a token and its neighbours tell about the expert, compared with shuffles: `context_information`."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks, Chunk, counted_rows, groups_of
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.leave_one_out import Estimate, estimate_rows, recount, without_interval
from mixtral_probe.tables.phrases import RARE_TYPES
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, TableSpec
from mixtral_probe.tables.specialization.information import BITS, CORRECTED, INFORMATION
from mixtral_probe.tables.specialization.layer_tokens import layer_tokens
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
Counts = NDArray[np.int64]
Ids = NDArray[np.int16]
Floats = NDArray[np.float64]
_SHUFFLES = 5
_IN_DOCUMENTS = f"null: experts exchanged among the tokens of each document, mean of {_SHUFFLES} shuffles"
_WORDS = {
    "token": f"token routed; {_IN_DOCUMENTS}",
    "previous token": f"token before; {_IN_DOCUMENTS}",
    "previous token|token": (
        "token before, among tokens of one type; null: experts exchanged among the tokens of one type in each "
        f"document, mean of {_SHUFFLES} shuffles"
    ),
    "next token": f"token that follows; {_IN_DOCUMENTS}",
    "predicted token": f"token the model expects next; {_IN_DOCUMENTS}",
}
_NONE = "no such tokens, or their ids were not recorded"


@of_trace
def context_information(trace: Trace, *, by: str | None = None, include_special: bool = False) -> pd.DataFrame:
    """Return what a token, those next to it and the one the model expects next tell about the token's expert.

    Columns: layer, group, variable, min_count, metric, value, corrected, low, high, null, n, scope. Each of a token's K
    experts counts 1/K. What the token before tells, alone and beyond the token itself, and the token are about tokens
    with a counted token before them.

    The null is what remains when the tokens of each document exchange their experts (for `previous token|token`, the
    tokens of one type in each document). Every document keeps its words and its experts, so the null has the bias of
    counting and what a type tells only by the documents it occurs in: documents have experts of their own, and a type
    that one document alone uses seems to tell about them. Exchanged among all documents, as if tokens were independent,
    that would pass for information of the token. What is above the null is too low rather than too high: fewer cells
    occur where the variable tells much, documents have their experts in part because of their words, and a token with
    no other to exchange with keeps its experts.

    Most types are so rare that an interval over documents would be wrong. The rows with a `min_count` above 1 are about
    types with five choices for each expert (`metrics.enough_tokens`); they have one, corrected for bias. Without a
    document its shuffles are left out too, so the interval of what is above the null is about that difference.

    Of a selection only the selected tokens count, for `min_count` too; the tokens next to them are those of the text,
    selected or not.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        include_special: count special tokens too.

    Raises:
        InputError: no such label.
    """
    names, group = groups_of(trace, by)
    of_token = group[trace.tokens["document"].to_numpy()]
    groups = [*enumerate(names), *([(None, ALL)] if by is not None else [])]
    variables, parts = _variables(trace, counted_rows(trace, include_special)), []
    for layers, counted in layer_tokens(trace, include_special):
        for number, name in groups:
            rows = counted if number is None else counted & (of_token == number)
            for variable in variables:
                scope = f"one layer; {tokens_scope(trace, include_special)}; {_WORDS[variable.name]}"
                parts += _variable_rows(trace, layers, variable.among(rows), {"group": name}, scope)
    return tidy(parts, SPEC)


class _Variable(NamedTuple):
    """A variable that may tell something about the expert, within the strata of its tokens."""

    name: str
    rows: Places
    """[n] the tokens that have it, as rows of the trace."""
    value: Places
    """[n] its value for each of them."""
    stratum: Places
    """[V] the stratum of each value: the type of the token, or 0."""

    @classmethod
    def of(cls, name: str, rows: Places, value: NDArray[np.int64], within: NDArray[np.int64]) -> "_Variable":
        """Return a variable with its values numbered separately for each stratum [n], such as the type of the token."""
        value, stratum = (np.unique(ids, return_inverse=True)[1] for ids in (value, within))
        kinds = int(value.max(initial=0)) + 1
        pairs, pair = np.unique(stratum * kinds + value, return_inverse=True)
        return cls(name, rows, pair, pairs // kinds)

    def among(self, tokens: NDArray[np.bool_]) -> "_Variable":
        """Return the variable of those of its tokens that are in a mask [T]."""
        return self._of(tokens[self.rows])

    def of_frequent(self, least: int) -> "_Variable":
        """Return the variable of the values with at least so many tokens."""
        return self._of(np.bincount(self.value, minlength=1)[self.value] >= least)

    def _of(self, places: NDArray[np.bool_]) -> "_Variable":
        values, value = np.unique(self.value[places], return_inverse=True)
        return self._replace(rows=self.rows[places], value=value, stratum=self.stratum[values])

    def joint(self, ids: Ids, experts: int) -> Counts:
        """[V, E] how often each value met each expert, of choices [n, K]."""
        cell = (self.value[:, None] * experts + ids)[ids >= 0]
        return np.bincount(cell, minlength=len(self.stratum) * experts).reshape(-1, experts)

    def bits(self, joint: Counts) -> Floats:
        """[...] bits the values tell about the expert beyond their strata, of counts [..., V, E]."""
        # Values are numbered stratum by stratum.
        starts = np.flatnonzero(np.diff(self.stratum, prepend=-1))
        within = np.add.reduceat(joint, starts, axis=-2)
        return metrics.mutual_information_bits(joint) - metrics.mutual_information_bits(within)

    def shuffles(self, document: Places) -> list[Places]:
        """Return orders [n], the token whose experts each one gets: exchanged within document [n] and stratum."""
        pair = self.stratum[self.value] * (int(document.max(initial=0)) + 1) + document
        cell = np.unique(pair, return_inverse=True)[1]
        generator, order = np.random.default_rng(0), np.argsort(cell, kind="stable")
        orders = []
        for _ in range(_SHUFFLES):
            shuffled = np.empty_like(order)
            # A fraction added to whole numbers: one sort shuffles every cell.
            shuffled[order] = np.argsort(cell + generator.random(len(cell)))
            orders.append(shuffled)
        return orders


def _variables(trace: Trace, counted: NDArray[np.bool_]) -> list[_Variable]:
    """Return every variable, of all tokens that have it; only tokens that do not count break a text."""
    token, run = trace.tokens["token_id"].to_numpy(np.int64), Chunk.of(trace).runs(counted)
    predicted = trace.tokens["predicted_id"].to_numpy(np.int64, na_value=-1)
    before = np.flatnonzero((run[1:] == run[:-1]) & (token[1:] >= 0))
    both = before[token[before] >= 0]
    expected = np.flatnonzero(counted & (predicted >= 0))
    none = np.zeros(len(trace), np.int64)
    return [
        _Variable.of("token", both + 1, token[both + 1], none[both]),
        _Variable.of("previous token", both + 1, token[both], none[both]),
        _Variable.of("previous token|token", both + 1, token[both], token[both + 1]),
        _Variable.of("next token", before, token[before + 1], none[before]),
        _Variable.of("predicted token", expected, predicted[expected], none[expected]),
    ]


def _variable_rows(
    trace: Trace, layers: tuple[int, ...], variable: _Variable, keys: dict[str, Any], scope: str
) -> list[pd.DataFrame]:
    """Return the rows of a variable in these layers, with intervals for the values with enough tokens."""
    least = metrics.enough_tokens(trace.num_experts, trace.num_experts_per_tok)
    frequent, keys = variable.of_frequent(least), keys | {"variable": variable.name}
    parts = _rows(trace, layers, variable, keys | {"min_count": 1}, f"{scope}; {RARE_TYPES}")
    return parts + _rows(
        trace, layers, frequent, keys | {"min_count": least}, f"{scope}; types with at least {least} tokens"
    )


def _rows(
    trace: Trace, layers: tuple[int, ...], variable: _Variable, keys: dict[str, Any], scope: str
) -> list[pd.DataFrame]:
    least, parts = keys["min_count"], []
    document = trace.tokens["document"].to_numpy()[variable.rows]
    orders = [np.arange(len(document)), *variable.shuffles(document)]
    why = f"no type has {least} tokens" if least > 1 else _NONE
    for layer in layers:
        keys = keys | {"layer": trace.layers[layer]}
        ids = np.asarray(trace.expert_ids[layer])[variable.rows]
        if not (ids >= 0).any():
            parts += [missing_rows(keys, metric, (1,), why) for metric in SPEC.metrics]
            continue
        shuffled = np.stack([ids[order] for order in orders])
        estimate = (_with_interval if least > 1 else _plain)(trace, variable, shuffled)
        null = [estimate.value[0] - estimate.value[1], 0.0]
        parts.append(estimate_rows(keys, [BITS, CORRECTED], estimate, null, (ids[:, 0] >= 0).sum(), scope))
    return parts


def _plain(trace: Trace, variable: _Variable, ids: Ids) -> Estimate:
    """[2] the bits, and those above the null, of choices [1 + shuffles, n, K]."""
    counts = np.stack([variable.joint(each, trace.num_experts) for each in ids])
    return without_interval(_bits_and_above(variable, counts))


def _with_interval(trace: Trace, variable: _Variable, ids: Ids) -> Estimate:
    """[2] the same with intervals over documents."""

    def count(tokens: Places) -> Counts:
        part = variable._replace(value=variable.value[tokens])
        return np.stack([part.joint(each[tokens], trace.num_experts) for each in ids])

    blocks = Blocks.of(trace.documents["id"])
    block = blocks.of_document[trace.tokens["document"].to_numpy()[variable.rows]]
    formula, most = partial(_bits_and_above, variable), float(np.log2(trace.num_experts))
    return recount(formula, count, block, blocks.number, folded=blocks.folded, bounds=([0.0, -most], most))


def _bits_and_above(variable: _Variable, counts: Counts) -> Floats:
    """[2] the bits of the first of counts [1 + shuffles, V, E], and how far they are above the mean of the others."""
    bits = variable.bits(counts)
    return np.array([bits[0], bits[0] - bits[1:].mean()])


SPEC = TableSpec(
    function=context_information,
    source="trace",
    description="What a token and its neighbours tell about its expert, compared with experts exchanged in documents.",
    keys=("layer", "group", "variable", "min_count"),
    metrics={
        BITS: replace(
            INFORMATION[BITS],
            meaning="bits the variable tells about the expert; null: experts exchanged within documents",
        ),
        CORRECTED: replace(
            INFORMATION[CORRECTED],
            meaning="the same less what the exchanged experts show, bits; null 0, nothing to tell",
        ),
    },
    figures=(Drawing("context_information"),),
    narrows=True,
)
