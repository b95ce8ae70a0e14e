"""What groups, types and neighbours tell about the expert, recomputed from raw arrays."""

from collections.abc import Callable, Iterator
from itertools import combinations, product
from math import ceil
from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control, hypergeom, ttest_1samp

from tests.referee.counting import ALL, Place, choices, counted, groups_of, place, places, token_keys
from tests.referee.information import chance_information, entropy_bits, exclusion, information
from tests.referee.record import LAYERS, Record, hash_of
from tests.referee.rows import NAN, UNCHECKED, Row, row_of

Variable = Callable[[Record, int], object]
"""The value of a token, or None where it has none."""


def group(record: Record, token: int) -> object:
    return record.group[record.document[token]]


def type_of(record: Record, token: int) -> object:
    known = int(record.token_id[token])
    return None if known < 0 else known


def position(record: Record, token: int) -> object:
    """0, 1, 2-3, 4-7, ... in the window."""
    return int(token_keys(record, token)[2]).bit_length()


def predicted(record: Record, token: int) -> object:
    return record.predicted_id[token]


def following(record: Record, token: int) -> object:
    return type_of(record, token + 1) if neighbours(record, token, token + 1) else None


def before(record: Record, token: int) -> object:
    return type_of(record, token - 1) if neighbours(record, token - 1, token) else None


def neighbours(record: Record, a: int, b: int) -> bool:
    """Whether two tokens that count follow each other in a window."""
    return (
        0 <= a < b < record.tokens and not record.special[[a, b]].any()
        and record.document[a] == record.document[b] and record.chunk[a] == record.chunk[b]
    )  # fmt: skip


def joint_of(at: Place, variable: Variable, values: list) -> np.ndarray:
    """[values, E] how often the tokens with a value chose each expert."""
    joint = np.zeros((len(values), at.experts))
    for token, chosen in zip(at.tokens, at.choices(), strict=True):
        for expert in chosen:
            joint[values.index(variable(at.record, token)), expert] += 1
    return joint


def having(at: Place, *variables: Variable) -> Place:
    """The tokens that have all these values."""
    tokens = [t for t in at.tokens if all(variable(at.record, t) is not None for variable in variables)]
    return Place(at.record, at.layer, at.group, tokens)


def values_of(at: Place, variable: Variable) -> list:
    return sorted({variable(at.record, token) for token in at.tokens})


def mutual_information(record: Record) -> Iterator[Row]:
    simple = {"position": position, "token": type_of, "predicted token": predicted, "next token": following}
    for at in places(record):
        variables = simple | ({"domain": group} if at.group == ALL else {})
        for name, variable in variables.items():
            some = having(at, variable)
            joint = joint_of(some, variable, values_of(some, variable))
            bits, n = information(joint), some.n
            if name == "domain":
                yield from _topic_rows((*at.keys, name), bits, n)
            else:
                yield from _information_rows(
                    (*at.keys, name), bits, chance_information(joint, excluded_of(at)), joint, n
                )
        if at.group == ALL:
            yield from _topic_without_lexicon(having(at, type_of), excluded_of(at))


def excluded_of(at: Place) -> float:
    return exclusion([(len(own),) for own in at.choices()], at.record.experts)


def _topic_rows(keys: tuple, bits: float, n: int) -> Iterator[Row]:
    """Information of the domain, whose chance is drawn."""
    yield Row(keys, "mutual_information_bits", bits, UNCHECKED, n)
    yield Row(keys, "mutual_information_bits_corrected", UNCHECKED, 0, n)
    yield Row(keys, "mutual_information_share", UNCHECKED, 0, n)


def _topic_without_lexicon(at: Place, excluded: float) -> Iterator[Row]:
    """Information of the group among tokens of one type, by the choices of each type."""
    bits, bias, whole = 0.0, 0.0, at.counts().sum()
    for value in values_of(at, type_of):
        own = Place(at.record, at.layer, at.group, [t for t in at.tokens if type_of(at.record, t) == value])
        joint = joint_of(own, group, groups_of(at.record)[:-1])
        bits += information(joint) * joint.sum() / whole
        bias += chance_information(joint, excluded) * joint.sum() / whole
    yield from _information_rows((*at.keys, "domain|token"), bits, bias, at.counts()[None], at.n)


def _information_rows(keys: tuple, bits: float, bias: float, joint: np.ndarray, n: int) -> Iterator[Row]:
    share = (bits - bias) / entropy_bits(joint.sum(0) / joint.sum())
    yield Row(keys, "mutual_information_bits", bits, bias, n)
    yield Row(keys, "mutual_information_bits_corrected", bits - bias, 0, n)
    yield Row(keys, "mutual_information_share", share, 0, n)


def enough(record: Record, cells: int = 1) -> int:
    """Tokens of a type that make five choices of each expert, in each of some cells."""
    return ceil(5 * record.experts * cells / record.chosen)


def context_information(record: Record) -> Iterator[Row]:
    variables = {
        "token": (type_of, None, (type_of, before)), "previous token": (before, None, (type_of, before)),
        "previous token|token": (before, type_of, (type_of, before)), "next token": (following, None, (following,)),
        "predicted token": (predicted, None, (predicted,)),
    }  # fmt: skip
    for layer in range(len(LAYERS)):
        for name in groups_of(record):
            whole = Place(record, layer, name, [t for t in range(record.tokens) if counted(record, t, name)])
            for variable, (value, within, needed) in variables.items():
                some = having(whole, *needed)
                for least in (1, enough(record)):
                    bits, n = _context_bits(some, value, within, least)
                    keys = (*whole.keys, variable, least)
                    yield Row(keys, "mutual_information_bits", bits, UNCHECKED, n)
                    yield Row(keys, "mutual_information_bits_corrected", UNCHECKED, 0 if n else UNCHECKED, n)


def _context_bits(at: Place, value: Variable, within: Variable | None, least: int) -> tuple[float, int]:
    """Bits of values met in at least so many tokens that count, beyond those of the stratum they are within."""

    def pair(record: Record, token: int) -> object:
        return (0 if within is None else within(record, token)), value(record, token)

    met = [pair(at.record, t) for t in at.tokens]
    often = [t for t, own in zip(at.tokens, met, strict=True) if met.count(own) >= least]
    routed = Place(at.record, at.layer, at.group, [t for t in often if choices(at.record, at.layer, t)])
    if not routed.n:
        return NAN, 0
    joint = joint_of(routed, pair, values_of(routed, pair))
    strata = [stratum for stratum, _ in values_of(routed, pair)]
    return sum(
        information(part) * part.sum() / joint.sum()
        for part in (joint[[own == stratum for own in strata]] for stratum in set(strata))
    ), routed.n


def domain_information(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        at = place(record, layer, ALL)
        yield from _domain_rows((*at.keys, "domain", None), information(_by_group(at)), at.n)
        for least in (1, enough(record, len(set(record.group)))):
            typed = having(at, type_of)
            met = [type_of(record, t) for t in range(record.tokens) if counted(record, t, ALL)]
            often = [t for t in typed.tokens if met.count(type_of(record, t)) >= least]
            some = Place(record, layer, ALL, often)
            bits = sum(
                information(_by_group(own)) * own.counts().sum() / some.counts().sum()
                for own in (
                    Place(record, layer, ALL, [t for t in often if type_of(record, t) == value])
                    for value in values_of(some, type_of)
                )
            )
            yield from _domain_rows((*at.keys, "domain|token", least), bits if some.n else NAN, some.n)


def _by_group(at: Place) -> np.ndarray:
    return joint_of(at, group, groups_of(at.record)[:-1])


def _domain_rows(keys: tuple, bits: float, n: int) -> Iterator[Row]:
    yield Row(keys, "mutual_information_bits", bits, UNCHECKED, n)
    yield Row(keys, "mutual_information_bits_above_shuffles", UNCHECKED, 0 if n else UNCHECKED, n)


def domain_specialization(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        whole = place(record, layer, ALL)
        for name in groups_of(record)[:-1]:
            at = place(record, layer, name)
            expected = whole.frequency() * at.n
            ratio = np.log2((at.counts() + 0.5) / (expected + 0.5))
            for expert in range(record.experts):
                difference = at.frequency()[expert] - whole.frequency()[expert]
                yield Row((*at.keys, expert), "frequency_difference", difference, 0, at.n)
                yield Row((*at.keys, expert), "frequency_log2_ratio", ratio[expert], 0, at.n)


def group_divergence(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        for name, other in combinations(groups_of(record)[:-1], 2):
            one, two = place(record, layer, name), place(record, layer, other)
            f, g, keys, n = one.share(), two.share(), (LAYERS[layer], name, other), one.n + two.n
            mean = (entropy_bits(f) + entropy_bits(g)) / 2
            js = entropy_bits((f + g) / 2) - mean
            cosine = sum(f * g) / np.sqrt(sum(f * f) * sum(g * g))
            yield Row(keys, "js_divergence_bits", js, UNCHECKED, n)
            yield Row(keys, "normalized_js_divergence", js / (np.log2(record.experts) - mean), UNCHECKED, n)
            yield Row(keys, "load_cosine", cosine, UNCHECKED, n)
            top = top_half(f), top_half(g)
            yield Row(keys, "top_half_jaccard", len(top[0] & top[1]) / len(top[0] | top[1]), 1, n)


def top_half(f: np.ndarray) -> set[int]:
    """The fewest experts that hold half of a load."""
    chosen: set[int] = set()
    for expert in sorted(range(len(f)), key=lambda i: -f[i]):
        if sum(f[i] for i in chosen) < 0.5:
            chosen.add(expert)
    return chosen


TARGETS = {"input": type_of, "predicted": predicted, "next": following}


def vocabulary_specialization(record: Record) -> Iterator[Row]:
    for at in places(record):
        for target, variable in TARGETS.items():
            some = having(at, variable)
            types = values_of(some, variable)
            joint = joint_of(some, variable, types)
            n = np.array([sum(variable(record, t) == value for t in some.tokens) for value in types])
            for least in (1, 10):
                for weighting in ("type", "token"):
                    keys = (*at.keys, target, least, weighting)
                    yield from _vocabulary_rows(keys, joint, n, least)
                    yield crossval_row(keys, some, variable, least)


def _vocabulary_rows(keys: tuple, joint: np.ndarray, n: np.ndarray, least: int) -> Iterator[Row]:
    for expert in (None, *range(joint.shape[1])):
        own = [x for x in range(len(n)) if n[x] >= least and expert in (None, int(np.argmax(joint[x])))]
        weight = [n[x] if keys[-1] == "token" else 1 for x in own]
        total = sum(weight[i] * max(joint[x]) / n[x] for i, x in enumerate(own))
        value = total / sum(weight) if own else NAN
        yield row_of((*keys, expert), "vocabulary_specialization", value, UNCHECKED, sum(n[x] for x in own))


def crossval_row(keys: tuple, some: Place, variable: Variable, least: int) -> Row:
    """The share of each type's tokens on one side of a split of the documents that chose the expert which leads on the
    other side: mean over types that are on both, over sides, and over 15 splits of 16 folds."""
    types, folds = values_of(some, variable), [having_fold(some, fold) for fold in range(16)]
    counts = np.array([joint_of(at, variable, types) for at in folds])
    n = np.array([[sum(variable(at.record, t) == x for t in at.tokens) for x in types] for at in folds])
    spread = [x for x in range(len(types)) if n[:, x].sum() >= least and sum(n[:, x] > 0) > 1]
    found = []
    for split, side in product(range(1, 16), (0, 1)):
        tested = np.array([(split & fold).bit_count() % 2 == side for fold in range(16)])
        usual = counts[tested].sum((0, 1)) / max(sum(folds[fold].n for fold in np.flatnonzero(tested)), 1)
        for x in spread:
            here, lead = n[tested, x].sum(), counts[~tested, x].sum(0)
            if here and lead.any():
                leaders = np.flatnonzero(lead == lead.max())
                share = np.mean(counts[tested, x].sum(0)[leaders]) / here
                found.append((share, np.mean(usual[leaders]), here if keys[-1] == "token" else 1))
    share, null, weight = zip(*found, strict=True) if found else ([NAN], [NAN], [1])
    value, null = (np.average(part, weights=weight) for part in (share, null))
    return row_of((*keys, None), "vocabulary_specialization_crossval", value, null, n[:, spread].sum())


def having_fold(at: Place, fold: int) -> Place:
    return Place(at.record, at.layer, at.group, [t for t in at.tokens if fold_of(at.record, t) == fold])


PRIOR = 1000


def expert_tokens(record: Record) -> Iterator[Row]:
    tried = [_Tried.of(at) for at in places(record)]
    family = [p for types in tried for row in types.p for p in row if not np.isnan(p)]
    rates = dict(zip(family, false_discovery_control(family), strict=True))
    for types in tried:
        for expert in range(types.at.experts):
            yield from _expert_rows(types, expert, rates)


class _Tried(NamedTuple):
    """The types with ten tokens at a place."""

    at: Place
    types: list[int]
    joint: list[np.ndarray]
    n: list[int]
    p: list[list[float]]
    """[V][E] of a preference that is consistent over folds of documents."""

    @classmethod
    def of(cls, at: Place) -> "_Tried":
        known = having(at, type_of)
        types = values_of(known, type_of)
        joint = joint_of(known, type_of, types)
        n = [sum(type_of(at.record, t) == value for t in known.tokens) for value in types]
        often = [x for x in range(len(types)) if n[x] >= 10]
        p = [[consistent_p(known, types[x], expert) for expert in range(at.experts)] for x in often]
        return cls(at, [types[x] for x in often], [joint[x] for x in often], [n[x] for x in often], p)


def consistent_p(known: Place, kind: int, expert: int) -> float:
    """The larger p of a t test over folds of documents and of a hypergeometric test over all tokens."""
    tokens = [(fold_of(known.record, t), type_of(known.record, t) == kind) for t in known.tokens]
    chose = [expert in chosen for chosen in known.choices()]
    x = []
    for fold in sorted({fold for fold, own in tokens if own}):
        here = [i for i in range(len(tokens)) if tokens[i][0] == fold]
        load, own = sum(chose[i] for i in here) / len(here), [chose[i] for i in here if tokens[i][1]]
        x.append((sum(own) - len(own) * load) / np.sqrt(len(own)))
    if len(x) < 5:
        return NAN
    both, own = sum(c and t[1] for c, t in zip(chose, tokens, strict=True)), sum(t[1] for t in tokens)
    alone = hypergeom.sf(both - 1, len(tokens), sum(chose), own)
    return max(ttest_1samp(x, 0, alternative="greater").pvalue, alone)


def fold_of(record: Record, token: int) -> int:
    """The first four bits of the hash of the document."""
    return hash_of(int(record.document[token])) >> 60


def _expert_rows(tried: _Tried, expert: int, rates: dict[float, float]) -> Iterator[Row]:
    at, types, joint, n = tried.at, tried.types, tried.joint, tried.n
    frequency, load = at.frequency()[expert], at.counts()[expert]
    lift = [joint[x][expert] / n[x] / frequency if frequency else 0.0 for x in range(len(n))]
    best = sorted((x for x in range(len(n)) if lift[x] > 1), key=lambda x: (-lift[x], -n[x], types[x]))[:10]
    for number, x in enumerate(best):
        y = joint[x][expert]
        keys = (*at.keys, expert, number, int(types[x]), f" t{types[x]}")
        yield Row(keys, "token_lift", lift[x], 1, n[x])
        yield Row(keys, "token_frequency", y / n[x], frequency, n[x])
        yield Row(keys, "token_npmi", npmi(y, joint[x].sum(), load, at.counts().sum()), 0, n[x])
        yield Row(keys, "token_log_odds", log_odds(y, n[x], load, at.n), 0, n[x])
        yield row_of(keys, "token_false_discovery", rates.get(tried.p[x][expert], NAN), 1, n[x])
    if not best:
        for metric, null in (
            ("token_lift", 1), ("token_frequency", frequency), ("token_npmi", 0), ("token_log_odds", 0),
            ("token_false_discovery", 1),
        ):  # fmt: skip
            yield Row((*at.keys, expert, None, None, None), metric, NAN, null, 0)


def npmi(both: float, of_type: float, of_expert: float, all_choices: float) -> float:
    """ln(p(x, e) / (p(x) p(e))) / -ln p(x, e) over choices (Bouma 2009)."""
    p = both / all_choices
    return np.log(p / (of_type / all_choices * of_expert / all_choices)) / -np.log(p)


def log_odds(y: float, n: float, load: float, tokens: float) -> float:
    """z-score of a type's log odds among an expert's tokens against those among the others, with a Dirichlet prior of
    1,000 tokens with the frequencies of all (Monroe, Colaresi & Quinn 2008, eqs. 16 and 22)."""
    alpha = PRIOR * n / tokens
    here = np.log((y + alpha) / (load + PRIOR - y - alpha))
    others = np.log((n - y + alpha) / (tokens - load + PRIOR - (n - y) - alpha))
    return (here - others) / np.sqrt(1 / (y + alpha) + 1 / (n - y + alpha))
