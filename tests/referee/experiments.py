"""Results of experiments with random arrays, and what the tables say of them, recomputed document by document."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

import numpy as np
from scipy.stats import pearsonr

from mixtral_probe.trace import AblationResult, LogitLensResult, SaliencyResult, SimilarityResult, SubsetsResult, WhatIf
from tests.referee.rows import NAN, Row, row_of

DOCUMENTS = ("law", "code", "law", "prose", "law", "code", "law")
"""The domain of each document."""
L, E, K = 2, 4, 2
ALL = "all"


def groups() -> dict[str, list[int]]:
    """The documents of each group."""
    numbers = range(len(DOCUMENTS))
    return {name: [d for d in numbers if DOCUMENTS[d] == name] for name in sorted(set(DOCUMENTS))} | {
        ALL: list(numbers)
    }


def labels() -> dict:
    return {"document": tuple(f"text-{number}" for number in range(len(DOCUMENTS)))}


def total(values, documents: list[int]) -> float:
    return sum(float(values[document]) for document in documents)


def ratio(above: float, below: float) -> float:
    return above / below if below else NAN


DRAWS = 6


@cache
def ablation_result() -> AblationResult:
    """With six draws of each placebo; expert 3 of the last layer is never chosen."""
    rng, size = np.random.default_rng(7), len(DOCUMENTS)
    tokens = rng.integers(1, 30, size)
    nll = 3 * tokens + rng.normal(size=size)
    routed = rng.integers(0, 10, (L, E, size)) % (tokens + 1)
    routed[-1, 3] = 0
    arrays = {
        "nll": nll, "tokens": tokens, "ablated": nll + rng.normal(1, 1, (L, E, size)),
        "draws": nll + rng.normal(0.3, 1, (DRAWS, L, E, size)), "routed": routed,
        "log_arrangements": np.full((L, E, size), 3.0),
    }  # fmt: skip
    meta = {"semantics": "zero", "experts": E, "experts_per_token": K}
    return AblationResult.of(arrays, labels(), meta | {"documents": {"domain": list(DOCUMENTS)}})


def ablation(result: AblationResult) -> Iterator[Row]:
    for name, documents in groups().items():
        rows = list(_ablation_of(result, name, documents))
        yield from (*rows, *_rates(result, name, documents))
        for metric in ("loss_increase", "loss_increase_beyond_placebo"):
            swept = {row.keys: row for row in rows if row.metric == metric}
            for keys, row in swept.items():
                rank = 1 + sum(other.value > row.value for other in swept.values())
                yield Row(keys, f"{metric}_rank", rank, (L * E + 1) / 2, row.n)


def _rates(result: AblationResult, name: str, documents: list[int]) -> Iterator[Row]:
    """Benjamini-Hochberg rates of p-values of the standardised loss among the standardised draws of all experts."""
    n, swept = total(result.tokens, documents), list(product(range(L), range(E)))
    runs = [result.ablated, *result.draws]
    changes = [[total(run[layer, expert] - result.nll, documents) / n for run in runs] for layer, expert in swept]
    z = [abs((np.array(row) - np.mean(row)) / np.std(row)) for row in changes]
    drawn = [value for row in z for value in row[1:]]
    p = [(1 + sum(value >= row[0] for value in drawn)) / (1 + len(drawn)) for row in z]
    for (layer, expert), own in zip(swept, p, strict=True):
        rate = min(other * len(p) / sum(value <= other for value in p) for other in p if other >= own)
        yield Row((layer, name, expert), "loss_increase_false_discovery", min(rate, 1), 1, n)


def _ablation_of(result: AblationResult, name: str, documents: list[int]) -> Iterator[Row]:
    for layer, expert in product(range(L), range(E)):
        keys, n = (layer, name, expert), total(result.tokens, documents)
        uses = total(result.routed[layer, expert], documents)
        lost = total(result.ablated[layer, expert] - result.nll, documents)
        chance = np.mean([total(draw[layer, expert] - result.nll, documents) for draw in result.draws])
        yield Row(keys, "selection_frequency", uses / n, K / E, n)
        yield Row(keys, "loss_increase", lost / n, chance / n, n)
        yield Row(keys, "placebo_loss_increase", chance / n, 0, n)
        yield Row(keys, "loss_increase_beyond_placebo", (lost - chance) / n, 0, n)
        yield row_of(keys, "loss_increase_per_use", ratio(lost, uses), ratio(chance, uses), uses)


@cache
def saliency_result() -> SaliencyResult:
    """Expert 0 of layer 1 is never chosen; expert 1 of layer 0 has a huge output."""
    rng, shape = np.random.default_rng(8), (L, len(DOCUMENTS), E)
    counts = rng.integers(0, 9, shape)
    counts[1, :, 0] = 0
    counts[..., -1] += counts.sum(-1) % K  # every token has K experts
    norms = counts * rng.uniform(1, 2, shape)
    largest = rng.uniform(1, 3, (L, E))
    largest[0, 1] = 500
    arrays = {
        "counts": counts, "norms": norms, "gated_norms": norms * 0.4, "gates": counts * rng.uniform(0.2, 0.8, shape),
        "largest": largest, "forming": np.array([True, False]), "super_experts": largest > 100,
    }  # fmt: skip
    return SaliencyResult.of(arrays, labels(), {"experts_per_token": K, "documents": {"domain": list(DOCUMENTS)}})


def saliency(result: SaliencyResult) -> Iterator[Row]:
    for (name, documents), layer, expert in product(groups().items(), range(L), range(E)):
        of = {array: total(result[array][layer, :, expert], documents) for array in ("counts", "gates")}
        choices = sum(total(result.counts[layer, :, other], documents) for other in range(E))
        keys, tokens = (layer, name, expert), choices / K
        yield Row(keys, "selection_frequency", of["counts"] / tokens, K / E, tokens)
        yield Row(keys, "weighted_frequency", of["gates"] / tokens, 1 / E, tokens)
        for metric, array in (("activation_norm", "norms"), ("reap", "gated_norms")):
            own = total(result[array][layer, :, expert], documents)
            every = sum(total(result[array][layer, :, other], documents) for other in range(E))
            yield row_of(keys, metric, ratio(own, of["counts"]), every / choices, of["counts"])
    yield from _largest(result)


def _largest(result: SaliencyResult) -> Iterator[Row]:
    """Su et al. (2507.23279): above the 99.5th percentile and above a tenth of the largest."""
    every = result.largest.ravel()
    threshold = max(np.percentile(every, 99.5), 0.1 * max(every))
    for layer, expert in product(range(L), range(E)):
        keys, n = (layer, ALL, expert), result.counts[layer, :, expert].sum()
        yield Row(keys, "largest_output", result.largest[layer, expert], threshold, n)
        above = result.largest[layer, expert] > threshold and result.forming[layer]
        yield Row(keys, "super_expert", above, 0, n)


@cache
def similarity_result() -> SimilarityResult:
    """Everything that can be compared; matrices are symmetric as cosines are."""
    rng, size = np.random.default_rng(9), len(DOCUMENTS)
    pair = ("weight_cosine", "neuron_mean_cosine", "gate_cosine", "aligned_cosine", "alignment_tau",
            "output_cosine_shuffled", "linear_cka", "linear_cka_shuffled", "router_logit_cosine")  # fmt: skip
    arrays = {name: symmetric(rng, (L,)) for name in pair}
    sampled = rng.integers(1, 12, size)
    arrays |= {"sampled": sampled, "aligned_cosine_chance": np.array(0.07)}
    for name in ("output_cosine", "output_angular"):
        arrays[name] = symmetric(rng, (L, size)) * sampled[:, None, None]
    arrays["rank_counts"] = rng.integers(1, 9, (L, E, E))
    model = {"hidden_size": 6, "intermediate_size": 10}
    return SimilarityResult.of(arrays, labels(), {"model": model})


def symmetric(rng, lead: tuple[int, ...]) -> np.ndarray:
    values = rng.uniform(-1, 1, (*lead, E, E))
    return (values + values.swapaxes(-1, -2)) / 2


def expert_similarity(result: SimilarityResult) -> Iterator[Row]:
    sampled, parameters = int(result.sampled.sum()), 3 * 6 * 10
    means = {name: result[name].sum(1) / sampled for name in ("output_cosine", "output_angular")}
    plan = {
        "weight_cosine": (result.weight_cosine, 0, parameters), "gate_cosine": (result.gate_cosine, 0, 6),
        "neuron_mean_cosine": (result.neuron_mean_cosine, 0, parameters),
        "aligned_cosine": (result.aligned_cosine, 0.07, parameters),
        "alignment_tau": (result.alignment_tau, 0, parameters),
        "router_logit_cosine": (result.router_logit_cosine, 0, sampled),
        "output_cosine": (means["output_cosine"], result.output_cosine_shuffled, sampled),
        "output_angular": (means["output_angular"], 0.5, sampled),
        "linear_cka": (result.linear_cka, result.linear_cka_shuffled, sampled),
    }  # fmt: skip
    for layer, i, j in product(range(L), range(E), range(E)):
        for metric, (values, null, n) in plan.items() if i != j else ():
            by_chance = null if np.ndim(null) == 0 else null[layer, i, j]
            yield Row((layer, ALL, i, j), metric, values[layer, i, j], by_chance, n)
    of_pairs = {"gate_weight_correlation": result.weight_cosine, "gate_output_correlation": means["output_cosine"]}
    for (metric, values), layer in product(of_pairs.items(), range(L)):
        found = [(result.gate_cosine[layer, i, j], values[layer, i, j]) for i, j in combinations(range(E), 2)]
        yield Row((layer, ALL, None, None), metric, pearsonr(*zip(*found, strict=True)).statistic, 0, len(found))


def norm_gate_ranks(result: SimilarityResult) -> Iterator[Row]:
    for layer, gate, norm in product(range(L), range(E), range(E)):
        counts = result.rank_counts[layer, gate]
        yield Row((layer, ALL, gate, norm), "rank_share", counts[norm] / sum(counts), 1 / E, sum(counts))


@cache
def subsets_result() -> SubsetsResult:
    kept = np.array(
        [[expert in subset for expert in range(E)] for size in (2, 3) for subset in combinations(range(E), size)]
    )
    return SubsetsResult.of(
        {"error": np.random.default_rng(10).random((L, len(kept))), "kept": kept}, {}, {"sampled": 40}
    )


def expert_subsets(result: SubsetsResult) -> Iterator[Row]:
    names = [",".join(str(expert) for expert in range(E) if mask[expert]) for mask in result.kept]
    for layer, (place, name) in product(range(L), enumerate(names)):
        size = name.count(",") + 1
        alike = [result.error[layer, other] for other, text in enumerate(names) if text.count(",") + 1 == size]
        yield Row((layer, ALL, size, name), "subset_error", result.error[layer, place], np.mean(alike), 40)


@cache
def lens_result() -> LogitLensResult:
    rng, tokens = np.random.default_rng(11), 60
    document = np.sort(rng.integers(0, len(DOCUMENTS), tokens))
    special = rng.random(tokens) < 0.1
    surprise = rng.gamma(2, 2, (L + 1, tokens))
    surprise[:, np.flatnonzero(np.append(np.diff(document), 1))] = np.nan
    arrays = {
        "document": document, "special": special, "entropy_bits": rng.gamma(2, 2, (L + 1, tokens)),
        "divergence_bits": rng.gamma(1, 1, (L + 1, tokens)), "next_token_bits": surprise,
        "agrees": rng.random((L + 1, tokens)) < 0.5,
    }  # fmt: skip
    return LogitLensResult.of(arrays, {}, {"documents": [f"text-{number}" for number in range(len(DOCUMENTS))]})


def logit_lens(result: LogitLensResult) -> Iterator[Row]:
    arrays = {"entropy_bits": "lens_entropy_bits", "divergence_bits": "lens_divergence_bits",
              "next_token_bits": "lens_next_token_bits", "agrees": "lens_agreement"}  # fmt: skip
    for array, metric in arrays.items():
        values = result[array].astype(float)
        counted = [t for t in range(len(result.special)) if not result.special[t] and not np.isnan(values[0, t])]
        means = [np.mean([layer[t] for t in counted]) for layer in values]
        for layer, value in enumerate(means):
            yield Row((layer, ALL), metric, value, means[-1], len(counted))


@cache
def what_if_result() -> WhatIf:
    rng, tokens = np.random.default_rng(12), 70
    document = np.sort(rng.integers(0, len(DOCUMENTS), tokens))
    ids = rng.random((3, L, tokens, E)).argsort(-1)[..., :K]
    same = rng.random((L, tokens)) < 0.6
    ids[1:, same] = ids[0, same][..., ::-1]
    nll = rng.gamma(2, 2, (3, tokens))
    nll[:, np.flatnonzero(np.diff(document, prepend=-1))] = np.nan
    arrays = {
        "expert_ids": ids, "nll": nll, "bits": rng.gamma(1, 1, (3, tokens)), "token_document": document,
        "predicted_id": rng.integers(0, 3, (3, tokens)), "special": rng.random(tokens) < 0.1,
        "probability": np.zeros((3, len(DOCUMENTS), 1)),
    }  # fmt: skip
    new = rng.integers(1, 9, len(DOCUMENTS))
    arrays |= {"continuation_tokens": new, "continuation_kept": rng.integers(0, new + 1),
               "draw_continuation_kept": rng.integers(0, new + 1)[None]}  # fmt: skip
    meta = {"sentences": ["an edit"], "placebo": ["a placebo"], "experts": E}
    return WhatIf.of(arrays, labels() | {"run": ("base", "edited", "placebo")}, meta)


def what_if(result: WhatIf) -> Iterator[Row]:
    for run, name in ((1, "edited"), (2, "placebo")):
        counted = [t for t in range(len(result.special)) if not result.special[t]]
        scored = [t for t in counted if not np.isnan(result.nll[0, t])]
        whole = (name, None, None, None)
        yield Row(whole, "loss", np.mean(result.nll[run, scored]), np.mean(result.nll[0, scored]), len(scored))
        change = result.nll - result.nll[0]
        changed = result.predicted_id != result.predicted_id[0]
        moved = np.array([[[set(map(int, ids)) for ids in layer] for layer in every] for every in result.expert_ids])
        moved = (moved != moved[0]).astype(float)  # [runs, L, T]
        means = [(whole, "loss_change", change, scored), (whole, "divergence_bits", result.bits, counted)]
        means += [(whole, "prediction_changed", changed, counted), (whole, "rerouted", moved.mean(1), counted)]
        means += [((name, layer, None, None), "rerouted", moved[:, layer], counted) for layer in range(L)]
        for document in range(len(DOCUMENTS)):
            inside = [t for t in scored if result.token_document[t] == document]
            means.append(((name, None, None, document), "loss_change", change, inside))
        for keys, metric, values, tokens in means:
            null = NAN if run == 2 else np.mean(values[2, tokens])
            yield Row(keys, metric, np.mean(values[run, tokens]), null, len(tokens))
        new = sum(result.continuation_tokens)
        edited, drawn = (sum(kept) / new for kept in (result.continuation_kept, result.draw_continuation_kept[0]))
        yield Row(whole, "continuation_kept", edited if run == 1 else drawn, drawn if run == 1 else NAN, new)
        for layer, expert in product(range(L), range(E)):
            before, after = ((result.expert_ids[side, layer, counted] == expert).mean() for side in (0, run))
            yield Row((name, layer, expert, None), "share", after, before, len(counted))


RESULTS = {
    "ablation": ablation_result, "saliency": saliency_result, "expert_similarity": similarity_result,
    "norm_gate_ranks": similarity_result, "expert_subsets": subsets_result, "logit_lens": lens_result,
    "what_if": what_if_result,
}  # fmt: skip
"""The result that each table is checked on."""
