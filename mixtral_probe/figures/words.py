"""How values, keys and texts are written in figures."""

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError


@dataclass(frozen=True)
class Words:
    """What a metric is called on an axis, and the format of its values."""

    name: str
    format: str = ".3g"
    null: str = "null"
    """What the reference line is called."""

    def text(self, value: float) -> str:
        """A value as a reader sees it."""
        if pd.isna(value) or value == 0:
            return "–" if pd.isna(value) else "0"
        text = format(float(value), self.format)
        return f"{float(value):,.0f}" if "e+0" in text and abs(value) < 1e7 else text


_EVEN, _BALANCED, _CHANCE = "even use", "balanced", "uniform routing"
METRICS = {
    "share": Words("share of assignments", ".1%", _EVEN),
    "selection_frequency": Words("share of tokens", ".1%", _EVEN),
    "gate_share": Words("mean gate weight", ".1%", _EVEN),
    "mean_probability": Words("mean router probability", ".1%", _EVEN),
    "rank_share": Words("share of tokens", ".1%", _EVEN),
    "max_violation": Words("max violation", ".3g", _CHANCE),
    "min_violation": Words("min violation", ".3g", _CHANCE),
    "cv_squared": Words("CV²", ".3g", _CHANCE),
    "gini": Words("Gini", ".3g", _CHANCE),
    "normalized_entropy": Words("normalised entropy", ".4g", _CHANCE),
    "effective_experts": Words("effective experts", ".3g", _CHANCE),
    "dead_experts": Words("dead experts", ".3g", _CHANCE),
    "inverse_simpson": Words("effective experts (Simpson)", ".3g", _CHANCE),
    "load_chi_squared": Words("chi-square of the load", ".3g", _CHANCE),
    "importance_cv_squared": Words("CV² of the weights", ".3g", _CHANCE),
    "max_violation_batch": Words("max violation, mean of documents", ".3g", _CHANCE),
    "load_balancing_loss_gshard": Words("GShard loss", ".3g", _BALANCED),
    "load_balancing_loss_sequence": Words("loss, mean of documents", ".4g", _BALANCED),
    "load_balancing_loss_device": Words("loss of devices", ".4g", _BALANCED),
    "average_gate_score": Words("average gate score", ".1%", _EVEN),
    "token_selection_ratio": Words("token selection ratio", ".1%", _EVEN),
    "skipped_share": Words("share of tokens that skip an expert", ".1%", "all logits alike"),
    "weight_ratio": Words("last weight / first", ".3g", "all logits alike"),
    "load_balancing_loss": Words("loss of one layer", ".4g", _BALANCED),
    "load_balancing_loss_mean": Words("mean of the layers' losses", ".4g", _BALANCED),
    "load_balancing_loss_pooled": Words("pooled loss (transformers)", ".4g", _BALANCED),
    "load_balancing_loss_pooled_part": Words("part of the pooled loss", ".4g", _BALANCED),
    "router_z_loss": Words("router z-loss, nats²", ".3g", "all logits 0"),
    "contribution": Words("contribution E f P", ".3g", _BALANCED),
    "excess": Words("excess E (f − 1/E)(P − 1/E)", ".2g", _BALANCED),
    "pooling_gap_groups": Words("hidden by pooling groups", ".2g", "groups alike"),
    "pooling_gap_layers": Words("hidden by pooling layers", ".2g", "layers alike"),
    "token_balance_loss": Words("the token's part of the loss", ".3g", "mean when balanced"),
    "router_entropy": Words("router entropy H(p)/ln E", ".3g", "all logits alike"),
    "top1_probability": Words("largest probability", ".1%", "all logits alike"),
    "topk_mass": Words("probability of the chosen", ".1%", "all logits alike"),
    "selection_margin": Words("selection margin, nats", ".3g", "all logits alike"),
    "order_margin": Words("order margin, nats", ".3g", "all logits alike"),
    "entropy_bits": Words("entropy, bits", ".3g", "even attention"),
    "distance": Words("distance, tokens", ".3g", "even attention"),
    "loss_change": Words("change of the loss, nats", "+.3f", "placebo"),
    "divergence_bits": Words("KL from the unchanged, bits", ".3f", "placebo"),
    "prediction_changed": Words("best guess changed", ".1%", "placebo"),
    "rerouted": Words("share of tokens rerouted", ".1%", "placebo"),
    "sink_share": Words("share on position 0", ".1%", "even attention"),
    "milliseconds": Words("time, ms", ".3g"),
    "milliseconds_plain": Words("time without timers, ms", ".3g"),
    "instrument_cost": Words("cost of timing", "+.1%", "free"),
    "time_share": Words("share of the time", ".1%", "in proportion to rows"),
    "tokens_per_second": Words("tokens per second", ",.0f"),
    "peak_bytes": Words("memory at the peak, bytes", ",.0f"),
    "rows": Words("rows in its batch", ",.0f", "even use"),
    "microseconds_per_row": Words("time per row, µs", ".3g", "the layer's experts together"),
    "set_overlap": Words("experts in common", ".1%", _CHANCE),
    "first_agreement": Words("same first choice", ".1%", _CHANCE),
    "same_set": Words("same experts", ".1%", _CHANCE),
    "set_jaccard": Words("of both / of either", ".3g", _CHANCE),
    "shared_experts": Words("experts in common", ".3g", _CHANCE),
    "set_hamming": Words("experts of one alone", ".3g", _CHANCE),
    "any_layer_differs": Words("tokens that differ in any layer", ".1%", _CHANCE),
    "share_change": Words("change of share", "+.2%", "no change"),
    "frequency_difference": Words("difference of the share of tokens", "+.1%", "as all documents"),
    "frequency_log2_ratio": Words("log2 of the ratio of shares", "+.2f", "as all documents"),
    "js_divergence_bits": Words("Jensen-Shannon divergence, bits", ".3g", "sampling alone"),
    "normalized_js_divergence": Words("divergence / what is possible", ".3g", "sampling alone"),
    "load_cosine": Words("cosine of the loads", ".4g", "sampling alone"),
    "top_half_jaccard": Words("busiest experts in common", ".2g", "the same experts"),
    "vocabulary_specialization": Words("plug-in", ".1%", "routed by load alone"),
    "vocabulary_specialization_crossval": Words("cross-validated", ".1%", "routed by load alone"),
    "token_lift": Words("lift", ".3g", "no preference"),
    "token_npmi": Words("nPMI", ".2g", "no preference"),
    "token_log_odds": Words("log odds, z", ".3g", "no preference"),
    "token_frequency": Words("share of the type's tokens", ".1%", "share of all tokens"),
    "token_false_discovery": Words("false discovery rate", ".2g", "no preference"),
    "mutual_information_bits": Words("information, bits", ".3g", "chance alone"),
    "mutual_information_bits_corrected": Words("information less chance, bits", ".3g", "nothing to tell"),
    "mutual_information_share": Words("information / entropy of the expert", ".2%", "nothing to tell"),
    "repetition_first": Words("same first choice", ".1%", "two tokens with these loads"),
    "repetition_any": Words("any expert in common", ".1%", "two tokens with these loads"),
    "overlap": Words("share of experts in common", ".1%", "two tokens with these loads"),
    "coactivation_preference": Words("preference, log2", "+.2f", "no preference"),
    "coactivation_conditional": Words("share of the expert's tokens", ".1%", "no preference"),
    "coactivation_buddy_share": Words("share of the expert's pairs", ".1%", "no preference"),
    "coactivation_jaccard": Words("both / either", ".2g", "no preference"),
    "coactivation_lift": Words("lift", ".3g", "no preference"),
    "joint_share": Words("share of tokens", ".2%", "independent layers"),
    "mutual_information_bits_above_shuffles": Words("information above the shuffles, bits", ".3g", "labels shuffled"),
    "shuffle_p_value": Words("p of shuffled labels", ".2g", "labels shuffled"),
    "transition_probability": Words("share of the expert's tokens", ".1%", "independent layers"),
    "transition_lift": Words("lift", ".3g", "independent layers"),
    "cramers_v": Words("Cramér's V", ".3g", "independent layers"),
    "lookup_accuracy": Words("told by the layer before", ".1%", "best single guess"),
    "path_share": Words("share of tokens", ".2%", "independent layers"),
    "path_entropy_bits": Words("entropy of the ways, bits", ".3g", "independent layers"),
    "distinct_paths": Words("different ways", ",.0f", "independent layers"),
    "hit_rate": Words("hit rate", ".1%", _CHANCE),
    "hit_rate_sequential": Words("hit rate, one after another", ".1%", _CHANCE),
    "rank_imbalance": Words("busiest device / mean", ".3g", _CHANCE),
    "rank_imbalance_eplb": Words("busiest device / mean, EPLB", ".3g", _CHANCE),
    "rank_imbalance_eplb_crossval": Words("busiest device / mean, EPLB tried on other documents", ".3g", _CHANCE),
    "dropped_share": Words("share of choices dropped", ".1%", _CHANCE),
    "saturation": Words("experts of the last step", ".1%", _CHANCE),
    "saturation_first": Words("first choice of the last step", ".1%", _CHANCE),
    "activation_norm": Words("mean length of its output", ".3g", "all of the layer"),
    "reap": Words("weight times length (REAP)", ".3g", "all of the layer"),
    "weighted_frequency": Words("routing weight per token", ".1%", _EVEN),
    "largest_output": Words("largest value of its output", ".3g", "a super expert's"),
    "super_expert": Words("super expert", ".0f", "none"),
    "loss_increase": Words("loss added", "+.3g", "placebo"),
    "placebo_loss_increase": Words("loss added by the placebo", "+.3g", "nothing lost"),
    "loss_increase_beyond_placebo": Words("loss added beyond the placebo", "+.3g", "as the placebo"),
    "loss_increase_per_use": Words("loss added per use", "+.3g", "placebo"),
    "weight_cosine": Words("cosine of the weights", ".3g", "unrelated"),
    "neuron_mean_cosine": Words("cosine of the mean neurons", ".3g", "unrelated"),
    "aligned_cosine": Words("cosine of neurons, best paired", ".3g", "random neurons"),
    "alignment_tau": Words("order kept by the pairing, tau", ".2g", "unrelated orders"),
    "gate_cosine": Words("cosine of the router's rows", ".3g", "unrelated"),
    "router_logit_cosine": Words("cosine of the router logits", ".3g", "unrelated"),
    "output_cosine": Words("cosine of the outputs", ".3g", "outputs of different tokens"),
    "output_angular": Words("angular similarity of the outputs", ".3g", "right angles"),
    "linear_cka": Words("linear CKA of the outputs", ".3g", "tokens of one shuffled"),
    "gate_weight_correlation": Words("router's rows with weights, correlation", ".2g", "unrelated"),
    "gate_output_correlation": Words("router's rows with outputs, correlation", ".2g", "unrelated"),
    "subset_error": Words("relative error of the layer's output", ".3g", "mean of subsets so large"),
    "lens_entropy_bits": Words("entropy of the prediction, bits", ".3g", "the model's own"),
    "lens_divergence_bits": Words("KL from the model's prediction, bits", ".3g", "the model's own"),
    "lens_next_token_bits": Words("surprise at the next token, bits", ".3g", "the model's own"),
    "lens_agreement": Words("same best token as the model", ".1%", "the model's own"),
    "lens_probability": Words("probability", ".1%", "even guess"),
    "attention_weight": Words("attention", ".1%", "even attention"),
    "attention_rollout": Words("attention rollout", ".1%", "even attention in every layer"),
    "attended_share": Words("share of the attention", ".1%", "even attention"),
    "entropy_bits_difference": Words("difference of entropy, bits", ".2g", "no difference"),
    "distance_difference": Words("difference of distance, tokens", ".2g", "no difference"),
    "sink_share_difference": Words("difference of the share on position 0", ".2g", "no difference"),
    "entropy_bits_effect": Words("entropy, standard deviations", ".2g", "no difference"),
    "distance_effect": Words("distance, standard deviations", ".2g", "no difference"),
    "sink_share_effect": Words("share on position 0, standard deviations", ".2g", "no difference"),
}


def words_of(metric: str) -> Words:
    """The words of a metric, with or without its ending; one this list lacks is called by its own name."""
    plain = metric.removesuffix("_all_choices")
    return METRICS.get(metric, METRICS.get(plain, Words(plain.replace("_", " "))))


def label(text: object) -> str:
    """Any text as plotly may show it: markup escaped, spaces and control characters made visible."""
    plain = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    glyphs = {"\n": "↵", "\t": "⇥", "\r": "␍"}
    shown = "".join(glyphs.get(char, char if char.isprintable() else "·") for char in plain)
    if shown != shown.strip(" "):
        left, right = len(shown) - len(shown.lstrip(" ")), len(shown) - len(shown.rstrip(" "))
        shown = "␣" * left + shown.strip(" ") + ("␣" * right if shown.strip(" ") else "")
    return html.escape(shown, quote=False)  # plotly reads no &quot;


def rows_of(frame: pd.DataFrame, metric: str, group: str | None = None, **keys: int | None) -> pd.DataFrame:
    """The rows of a metric, of a group and of the keys that are not None.

    Raises:
        InputError: there is none, naming what the table holds.
    """
    wanted = {"metric": metric, "group": group, **keys}
    for column, choice in wanted.items():
        if choice is None:
            continue
        held = frame[column]
        frame = frame[(held == choice).fillna(False).to_numpy(dtype=bool)]
        if frame.empty:
            known = ", ".join(map(str, held.dropna().unique()[:20])) or "nothing"
            raise InputError(f"{column} {choice!r} was asked for, but the table holds {known}")
    return frame


def names_of(frame: pd.DataFrame, column: str) -> list[str]:
    """The values of a text column in their order, "all" last."""
    found = list(dict.fromkeys(frame[column].astype(str)))
    return [name for name in found if name != "all"] + [name for name in found if name == "all"]


def subtitle(frame: pd.DataFrame, more: str = "") -> str:
    """Scope and n of the rows shown: what all their scopes have in common, and the smallest to the largest n."""
    shared, counts = shared_scope(frame), frame["n"].dropna()
    size = "n not given"
    if len(counts):
        low, high = f"{counts.min():,}", f"{counts.max():,}"
        size = f"n = {low if low == high else f'{low} – {high}'} tokens"
    # Scopes name columns as code, which a figure cannot set.
    text = " · ".join(label(part.replace("`", "")) for part in [*([more] if more else []), *shared, size])
    return "<br>".join(textwrap.wrap(text, 125))


def shared_scope(frame: pd.DataFrame) -> list[str]:
    """The parts that the scopes of all rows have in common."""
    scopes = [str(scope).split("; ") for scope in frame["scope"].unique()]
    return [part for part in scopes[0] if all(part in scope for scope in scopes)] if scopes else []


def hover(frame: pd.DataFrame, keys: Sequence[str], words: Words, *, brief: bool = False) -> np.ndarray:
    """[rows] object array of hover texts: keys, value, interval, null and n; keys and value only when `brief`."""
    columns = [frame[name].astype(object) for name in keys]
    heads = [
        " · ".join(f"{name} {label(value)}" for name, value in zip(keys, row, strict=True))
        for row in zip(*columns, strict=True)
    ]
    if brief:
        lines = [f"{head}<br>{words.text(value)}" for head, value in zip(heads, frame["value"], strict=True)]
    else:
        numbers = frame[["value", "low", "high", "null", "n"]].itertuples(index=False)
        lines = [f"<b>{head}</b><br>{_numbers(words, *row)}" for head, row in zip(heads, numbers, strict=True)]
    return np.array(lines, dtype=object)


def _numbers(words: Words, value: float, low: float, high: float, null: float, n: int) -> str:
    interval = "no interval" if pd.isna(low) else f"95 % interval {words.text(low)} to {words.text(high)}"
    count = "not given" if pd.isna(n) else f"{int(n):,} tokens"
    return f"{words.name}: <b>{words.text(value)}</b><br>{interval}<br>{words.null}: {words.text(null)}<br>n: {count}"


def ticks(values: Iterable[object], most: int = 16) -> tuple[np.ndarray, list[str]]:
    """Places 0, 1, … and labels of at most about `most` of the values, evenly thinned."""
    texts = [label(value) for value in values]
    step = max(1, -(-len(texts) // most))
    return np.arange(0, len(texts), step), texts[::step]
