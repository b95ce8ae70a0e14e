"""What a document's topic tells about the expert, held against documents with shuffled labels: `domain_information`."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import ALL, LABEL, counted_rows, groups_of
from mixtral_probe.tables.frame import VALUE_COLUMNS, estimate_rows, missing_rows, rows, tidy, typed_frame
from mixtral_probe.tables.jackknifed import Blocks, estimate_of, without_interval
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
Counts = NDArray[np.int64]
TOPICS = {
    "mutual_information_bits": "plug-in information of the label about the expert, bits; null: labels shuffled",
    "mutual_information_bits_above_shuffles": "the same less the mean of the shuffles, bits: rather too low; null 0",
    "shuffle_p_value": "share of the shuffles, and of the labels as they are, with as many bits or more",
}
KEYS = ("layer", "group", "variable", "min_count")
SHUFFLES = 99
_RARE = "no interval: most types are too rare for one to hold"


class _Texts(NamedTuple):
    """Tokens of a trace; those of one kind in one document are a row of their own."""

    at: Places
    """[n] where they stand in the trace."""
    row: Places
    """[n]"""
    document: Places
    """[R]"""
    kind: Places
    """[R] the number of the token type, 0 to V - 1."""
    group: Places
    """[documents] 0 to G - 1."""
    blocks: Blocks | None
    """Of the tokens, apart for each group; None where no interval would hold."""


def domain_information(
    trace: Trace, *, by: str | None = None, shuffles: int = SHUFFLES, include_special: bool = False
) -> pd.DataFrame:
    """What the label of a document tells about the chosen expert, alone and among tokens of one type.

    Columns: layer, group, variable, min_count, metric, value, low, high, null, n, scope. Each of a token's K experts
    counts 1/K. Documents differ from one another whatever their topic, and tokens of one document resemble each other,
    so chance is what the same documents give when their labels are shuffled: the permutation test of exchangeable
    documents, whose p-values are uniform when the label says nothing. Shuffling tokens, or the bias of
    `mutual_information`, takes every difference between documents for one between topics.

    Among tokens of one type, most types are too rare for an interval. The rows with a `min_count` above 1 are about
    types with five choices for each expert in each group (`metrics.enough_tokens`); theirs is corrected for bias.
    Intervals take the groups' shares of the tokens as given, and need two documents of each group. What is above the
    shuffles is a low estimate where the label does tell something: groups of mixed documents still differ.

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
        raise InputError(f"shuffles must be at least 1, since chance is what they show, but {shuffles} came")
    if by is None and LABEL not in trace.labels:
        empty = typed_frame(pd.DataFrame(columns=[*KEYS, *VALUE_COLUMNS]))
        empty.attrs["note"] = f"not enough data: documents have no label {LABEL!r}; name another with by="
        return empty
    names, group = groups_of(trace, by or LABEL)
    at = np.flatnonzero(counted_rows(trace, include_special))
    token = trace.tokens["token_id"].to_numpy(np.int64)
    known = at[token[at] >= 0]
    least = metrics.enough_tokens(len(names) * trace.num_experts, trace.num_experts_per_tok)
    about = f"one layer; {'all tokens' if include_special else 'special tokens out'}; label {by or LABEL}"
    among = f"{about}, among tokens of one type"
    often = known[np.bincount(token[known], minlength=1)[token[known]] >= least]
    plan = [
        ("domain", pd.NA, _texts(trace, at, np.zeros(len(at), np.int64), group), about),
        ("domain|token", 1, _texts(trace, known, token[known], group)._replace(blocks=None), f"{among}; {_RARE}"),
        ("domain|token", least, _texts(trace, often, token[often], group), among),
    ]
    parts = []
    for row, layer in enumerate(trace.layers):
        for variable, count, texts, scope in plan:
            keys = {"layer": layer, "group": ALL, "variable": variable, "min_count": count}
            parts += _of_layer(trace, row, texts, keys, shuffles, scope)
    return tidy(parts, KEYS)


def _texts(trace: Trace, at: Places, kind: NDArray[np.int64], group: Places) -> _Texts:
    document = trace.tokens["document"].to_numpy()[at].astype(np.int64)
    kind = np.unique(kind, return_inverse=True)[1]
    row, owner, kind = _pairs(document, kind)
    # Kinds that stand in one document alone tell nothing of groups: all of a document may be one, which is faster.
    alone = np.bincount(kind, minlength=1)[kind] == 1
    kind = np.where(alone, kind.max(initial=0) + 1 + owner, kind)
    kind = np.unique(kind, return_inverse=True)[1]
    merged, owner, kind = _pairs(owner, kind)
    return _Texts(at, merged[row], owner, kind, group, Blocks.of_groups(trace, at, group))


def _pairs(document: NDArray[np.int64], kind: Places) -> tuple[Places, Places, Places]:
    """Which of the pairs met each one is, and the document and the kind of each pair."""
    kinds = int(kind.max(initial=0)) + 1
    met, row = np.unique(document * kinds + kind, return_inverse=True)
    return row, met // kinds, met % kinds


def _of_layer(
    trace: Trace, layer: int, texts: _Texts, keys: dict[str, Any], shuffles: int, about: str
) -> list[pd.DataFrame]:
    ids, experts = np.asarray(trace.expert_ids[layer])[texts.at].astype(np.intp), trace.num_experts
    n = int((ids[:, 0] >= 0).sum()) if ids.size else 0
    if why := _missing(texts, n, keys["min_count"]):
        return [missing_rows(keys, metric, (1,), why) for metric in TOPICS]

    def count(tokens: Places) -> Counts:
        cell = (texts.row[tokens, None] * experts + ids[tokens])[ids[tokens] >= 0]
        return np.bincount(cell, minlength=len(texts.kind) * experts).reshape(-1, experts)

    whole, scope = count(np.arange(len(ids))), f"{about}; labels shuffled over documents {shuffles} times"
    drawn = _shuffled(texts, whole, shuffles)
    bits = partial(_bits, texts, _joint(texts, whole, texts.group).sum((0, 2)))
    if texts.blocks is None:
        found = without_interval(bits(whole))
    else:
        found = estimate_of(bits, count, texts.blocks, (0.0, float(np.log2(experts))))
    # What is equal up to the order of a sum counts as equal.
    share = (1 + (drawn >= found.value - 1e-12).sum()) / (1 + shuffles)
    return [
        estimate_rows(keys, "mutual_information_bits", found, drawn.mean(), np.int64(n), scope),
        *(
            rows(keys, metric, value, null=chance, n=n, scope=f"{scope}; no interval: the shuffles are of these texts")
            for metric, value, chance in (
                ("mutual_information_bits_above_shuffles", found.value - drawn.mean(), 0.0),
                ("shuffle_p_value", share, 0.5),
            )
        ),
    ]


def _missing(texts: _Texts, n: int, least: Any) -> str:
    """Why nothing can be told, or an empty text."""
    if not n:
        return "no tokens" if least is pd.NA else f"no type has {least} tokens, or token ids were not recorded"
    met = np.bincount(texts.group[np.unique(texts.document)])
    if (met > 0).sum() < 2:
        return "tokens of one group alone"
    return "every group is one document, so that shuffled labels change nothing" if met.max() == 1 else ""


def _joint(texts: _Texts, counts: Counts, group: Places) -> NDArray[np.float64]:
    """[V, G, E] of the counts [R, E] of rows."""
    groups = int(group.max()) + 1
    size = (int(texts.kind.max()) + 1) * groups
    cell = texts.kind * groups + group[texts.document]
    joint = np.stack([np.bincount(cell, weights=own, minlength=size) for own in counts.T], -1).astype(np.float64)
    return joint.reshape(-1, groups, counts.shape[1])


def _bits(texts: _Texts, sizes: NDArray[np.float64], counts: Counts) -> float:
    """Information of the groups about the expert within each kind, bits; sizes: [G] the weight each group keeps."""
    joint = _joint(texts, counts, texts.group)
    joint *= metrics.ratio(sizes, joint.sum((0, 2)))[:, None]
    return float(metrics.conditional_mutual_information_bits(joint))


def _shuffled(texts: _Texts, counts: Counts, shuffles: int) -> NDArray[np.float64]:
    """[shuffles] the bits when the documents that have tokens exchange their groups; always the same."""
    generator, there, group = np.random.default_rng(0), np.unique(texts.document), texts.group.copy()
    drawn = []
    for _ in range(shuffles):
        group[there] = generator.permutation(texts.group[there])
        drawn.append(float(metrics.conditional_mutual_information_bits(_joint(texts, counts, group))))
    return np.array(drawn)
