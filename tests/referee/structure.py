"""Pairs of experts, of tokens and of layers, recomputed from raw arrays."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from tests.referee.counting import Place, choices, counted, groups_of, place, places, same_window
from tests.referee.information import chance_information, exclusion, information
from tests.referee.record import LAYERS, Record
from tests.referee.rows import NAN, UNCHECKED, Row, row_of


def coactivation(record: Record) -> Iterator[Row]:
    for at in places(record):
        both, even = pairs(at), pairs_without_preference(pairs(at))
        for i, j in product(range(at.experts), repeat=2):
            if i != j:
                yield from _coactivation(at, i, j, both, even)


def _coactivation(at: Place, i: int, j: int, both: np.ndarray, even: np.ndarray) -> Iterator[Row]:
    n = at.counts()
    either = n[i] + n[j] - both[i, j]
    rows = {
        "conditional": (both[i, j], even[i, j], n[i], n[i]),
        "buddy_share": (both[i, j], even[i, j], sum(both[i]), n[i]),
        "lift": (both[i, j] * at.n, even[i, j] * at.n, n[i] * n[j], at.n),
    }
    for name, (value, null, part, tokens) in rows.items():
        yield row_of((*at.keys, i, j), f"coactivation_{name}", divide(value, part), divide(null, part), tokens)
    jaccard = divide(even[i, j], n[i] + n[j] - even[i, j])
    yield row_of((*at.keys, i, j), "coactivation_jaccard", divide(both[i, j], either), jaccard, either)
    preference = np.log2((both[i, j] + 0.5) / (even[i, j] + 0.5))
    yield row_of((*at.keys, i, j), "coactivation_preference", preference if either else NAN, 0, either)


def pairs_without_preference(both: np.ndarray) -> np.ndarray:
    """[E, E] the table m_ij = a_i a_j with an empty diagonal and the row sums of `both` (Goodman 1968)."""
    rows = both.sum(1)
    used = rows > 0
    a = np.sqrt(rows / max(rows.sum(), 1))[used]
    for _ in range(100_000):
        last, a = a, (a + rows[used] / (a.sum() - a)) / 2
        if abs(a - last).max() < 1e-15 * a.max():
            break
    whole = np.zeros(len(both))
    whole[used] = a
    return np.outer(whole, whole) * (1 - np.eye(len(both)))


def pairs(at: Place) -> np.ndarray:
    """[E, E] tokens that chose both experts; the diagonal is 0."""
    both = np.zeros((at.experts, at.experts))
    for chosen in at.choices():
        for i, j in product(chosen, repeat=2):
            both[i, j] += i != j
    return both


def divide(a: float, b: float) -> float:
    return a / b if b else NAN


def first_choices(record: Record, group: str) -> list[tuple[int, ...]]:
    """The paths of the tokens that went to experts in all layers."""
    layers = range(len(LAYERS))
    tokens = [t for t in range(record.tokens) if counted(record, t, group)]
    everywhere = [t for t in tokens if all(choices(record, layer, t) for layer in layers)]
    return [tuple(choices(record, layer, t)[0] for layer in layers) for t in everywhere]


def paths(record: Record) -> Iterator[Row]:
    for group in groups_of(record):
        found = first_choices(record, group)
        counts = {path: found.count(path) for path in set(found)}
        shares = [count / len(found) for count in counts.values()]
        yield Row((group, None, None), "path_entropy_bits", -sum(x * np.log2(x) for x in shares), UNCHECKED, len(found))
        yield Row((group, None, None), "distinct_paths", len(counts), UNCHECKED, len(found))
        best = sorted(counts, key=lambda path: (-counts[path], path))[:20]
        for number, path in enumerate(best):
            alike = [sum(other[layer] == expert for other in found) / len(found) for layer, expert in enumerate(path)]
            name = "-".join(map(str, path))
            yield Row((group, number, name), "path_share", counts[path] / len(found), np.prod(alike), len(found))


def repetition(record: Record) -> Iterator[Row]:
    metrics = {
        "repetition_first": lambda a, b: a[0] == b[0],
        "repetition_any": lambda a, b: bool(set(a) & set(b)),
        "overlap": lambda a, b: len(set(a) & set(b)) / record.chosen,
    }
    for at, (metric, alike) in product(places(record), metrics.items()):
        sets = dict(zip(at.tokens, at.choices(), strict=True))
        null = np.mean([alike(a, b) for a in sets.values() for b in sets.values()])
        shuffled = {document: two_tokens(own, alike) for document, own in sets_by_document(at).items()}
        for lag in range(1, 9):
            apart = pairs_of_tokens(at, lag)
            keys, by_chance = (*at.keys, lag), null if apart else UNCHECKED
            value = np.mean([alike(sets[a], sets[b]) for a, b in apart]) if apart else NAN
            yield Row(keys, metric, value, by_chance, len(apart))
            mean = np.mean([shuffled[int(record.document[a])] for a, _ in apart]) if apart else NAN
            yield Row(keys, f"{metric}_shuffled", mean, by_chance, len(apart))


Alike = Callable[[list[int], list[int]], float]


def sets_by_document(at: Place) -> dict[int, list[list[int]]]:
    """The choices of the tokens of each document."""
    return {int(at.record.document[d.tokens[0]]): d.choices() for d in at.documents()}


def two_tokens(sets: list[list[int]], alike: Alike) -> float:
    """Mean over any two different tokens: what neighbours have in common if the tokens are shuffled."""
    return np.mean([alike(a, b) for i, a in enumerate(sets) for j, b in enumerate(sets) if i != j]) if sets[1:] else NAN


def pairs_of_tokens(at: Place, lag: int) -> list[tuple[int, int]]:
    """The pairs of counted tokens so far apart in a window, with no special token between."""
    record = at.record
    here = [(t, t + lag) for t in at.tokens if t + lag in at.tokens and same_window(record, t, t + lag)]
    return [(a, b) for a, b in here if not record.special[a : b + 1].any()]


def transitions(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS) - 1):
        for group in groups_of(record):
            tokens = [t for t in place(record, layer, group).tokens if choices(record, layer + 1, t)]
            keys = LAYERS[layer], LAYERS[layer + 1], group
            both = [(choices(record, layer, t), choices(record, layer + 1, t)) for t in tokens]
            numbers = [(len(a), len(b)) for a, b in both]
            yield from _transitions(keys, first_joint(record, layer, tokens), 1, [(1, 1)] * len(both))
            yield from _transitions(keys, joint_of(both, record.experts), record.chosen, numbers)
            yield lookup(record, layer, keys, tokens)


def first_joint(record: Record, layer: int, tokens: list[int]) -> np.ndarray:
    """[E, E] tokens by their first choices in a layer and the next."""
    first = [(choices(record, layer, t)[:1], choices(record, layer + 1, t)[:1]) for t in tokens]
    return joint_of(first, record.experts)


def joint_of(both: list[tuple[list[int], list[int]]], experts: int) -> np.ndarray:
    """[E, E] pairs of a token's choice in one layer and its choice in the other."""
    joint = np.zeros((experts, experts))
    for a, b in both:
        for i, j in product(a, b):
            joint[i, j] += 1
    return joint


def _transitions(keys: tuple, joint: np.ndarray, ranks: int, numbers: list[tuple[int, int]]) -> Iterator[Row]:
    suffix, n, excluded = "" if ranks == 1 else "_all_choices", len(numbers), exclusion(numbers, len(joint))
    total = joint.sum()
    left, right = joint.sum(1) / total, joint.sum(0) / total
    for i, j in product(range(len(joint)), repeat=2):
        where, share = (*keys, i, j), joint[i, j] / total
        yield Row(where, f"joint_share{suffix}", share, left[i] * right[j], n)
        follows, uses = divide(joint[i, j], joint[i].sum()), joint[i].sum() // ranks
        lift = divide(share, left[i] * right[j])
        for row in (
            row_of(where, f"transition_probability{suffix}", follows, right[j], uses),
            row_of(where, f"transition_lift{suffix}", lift, 1, n),
        ):
            yield row._replace(weight=joint[i].sum())
    bits, bias, whole = information(joint), chance_information(joint, excluded), (*keys, None, None)
    yield Row(whole, f"mutual_information_bits{suffix}", bits, bias, n)
    yield Row(whole, f"mutual_information_bits_corrected{suffix}", bits - bias, 0, n)
    yield Row(whole, f"cramers_v{suffix}", *cramers_v(joint, excluded), n)


def cramers_v(joint: np.ndarray, excluded: float) -> tuple[float, float]:
    """Root of chi-square / (T (min(rows, columns) - 1)) of the rows and columns that occur, and that of chance."""
    total, used = joint.sum(), joint[joint.sum(1) > 0][:, joint.sum(0) > 0]
    even = np.outer(used.sum(1), used.sum(0)) / total
    scale = total * (min(used.shape) - 1)
    by_chance = (used.shape[0] - 1) * (used.shape[1] - 1) * excluded
    if not scale:
        return NAN, NAN
    return np.sqrt(sum(((used - even) ** 2 / even).flat) / scale), np.sqrt(by_chance / scale)


def lookup(record: Record, layer: int, keys: tuple, tokens: list[int]) -> Row:
    """Guess each token's next first choice: what follows most often in other documents, or else is commonest there."""
    right, right_alone = [], []
    for t in tokens:
        others = [u for u in tokens if record.document[u] != record.document[t]]
        joint = first_joint(record, layer, others)
        if others:
            before, after = choices(record, layer, t)[0], choices(record, layer + 1, t)[0]
            alone = np.argmax(joint.sum(0))
            right.append(after == (np.argmax(joint[before]) if joint[before].any() else alone))
            right_alone.append(after == alone)
    values = (np.mean(right), np.mean(right_alone)) if right else (NAN, NAN)
    return Row((*keys, None, None), "lookup_accuracy", *values, len(right))
