"""Load-balancing losses and their exact parts, as functions of a layer's load and mean probability.

`share` is f_i = n_i / (K T) and `probability` is P_i = mean over tokens of softmax(logits)_i over *all* experts,
both `[..., E]`. With a fixed K both are means over tokens, which is what makes the identities below exact.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]


def load_balancing_contribution(share: ArrayLike, probability: ArrayLike) -> Floats:
    """[..., E] each expert's part E f_i P_i of the loss; the parts sum to `load_balancing_loss`; 1/E at balance."""
    f, p = np.asarray(share, np.float64), np.asarray(probability, np.float64)
    return f.shape[-1] * f * p


def load_balancing_loss(share: ArrayLike, probability: ArrayLike) -> Floats:
    """[...] E sum_i f_i P_i: 1 at balance, at most E/K (Switch, arXiv 2101.03961, eq. 4, over K)."""
    return load_balancing_contribution(share, probability).sum(-1)


def chance_load_balancing_loss(
    mass: ArrayLike, tokens: ArrayLike, choices: ArrayLike, *, num_experts: int, chosen: int
) -> Floats:
    """[...] mean of the loss over all ways to permute each token's expert labels: 1 + (E q / K - 1) / T.

    That is what routing without any preference among experts gives T tokens that are as sure as these: a token's own
    choices and its own probabilities go together, with q the mean probability mass of a token's K choices; those of two
    tokens are independent. Exact, also for tokens of which some chose fewer than K experts. NaN for no tokens.

    Args:
        mass: [...] sum over tokens of the probabilities of the experts they chose, q T.
        tokens: [...] T.
        choices: [...] choices of all tokens, K T unless some chose fewer.
        num_experts: E.
        chosen: K.
    """
    return chance_device_balance_loss(mass, tokens, choices, num_experts=num_experts, chosen=chosen, ranks=num_experts)


def load_balancing_excess(share: ArrayLike, probability: ArrayLike) -> Floats:
    """[..., E] E (f_i - 1/E)(P_i - 1/E): 0 at balance, may be negative.

    Where the shares sum to 1 the excesses sum to `load_balancing_loss` - 1 = E^2 Cov_i(f, P).
    """
    f, p = np.asarray(share, np.float64), np.asarray(probability, np.float64)
    experts = f.shape[-1]
    return experts * (f - 1 / experts) * (p - 1 / experts)


def token_balance_loss(share: ArrayLike, token_probability: ArrayLike) -> Floats:
    """[..., T] each token's part c(t) = E sum_i f_i p_(t,i); its mean over tokens is exactly the loss.

    Args:
        share: [..., E] the layer's f over the same tokens.
        token_probability: [..., T, E] softmax of the router logits.
    """
    f, p = np.asarray(share, np.float64), np.asarray(token_probability, np.float64)
    return f.shape[-1] * (p @ f[..., None])[..., 0]


def weighted_mean(values: ArrayLike, weights: ArrayLike) -> Floats:
    """[...] mean of `values` [..., G] by `weights` [..., G]; where a weight is 0 it may be NaN; NaN if all are 0."""
    v, w = np.broadcast_arrays(np.asarray(values, np.float64), np.asarray(weights, np.float64))
    total = w.sum(-1)
    return np.divide(np.where(w > 0, v * w, 0.0).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)


def pooling_gap(share: ArrayLike, probability: ArrayLike, weights: ArrayLike) -> Floats:
    """[..., E] E Cov_g(f_i^g, P_i^g): each expert's part of (mean of the groups' losses) - (loss of the pooled tokens).

    A loss over pooled groups hides imbalance that differs between them; over experts the parts sum to exactly that.

    Args:
        share: [..., G, E] f within each group.
        probability: [..., G, E] P within each group.
        weights: [..., G] tokens of each group (all equal for layers or sequences of one length).
    """
    f, p = np.moveaxis(np.asarray(share, np.float64), -2, -1), np.moveaxis(np.asarray(probability, np.float64), -2, -1)
    w = np.asarray(weights, np.float64)[..., None, :]  # f, p: [..., E, G]
    centred_f, centred_p = f - weighted_mean(f, w)[..., None], p - weighted_mean(p, w)[..., None]
    return f.shape[-2] * weighted_mean(centred_f * centred_p, w)


def gshard_loss(first_share: ArrayLike, probability: ArrayLike) -> Floats:
    """[...] (1/E) sum_i (c_i / S) m_i: 1/E^2 at balance, at most 1/E (GShard, arXiv 2006.16668, algorithm 1).

    Args:
        first_share: [..., E] share of tokens whose first choice the expert is, c_i / S.
        probability: [..., E] mean softmax m_i.
    """
    c, m = np.asarray(first_share, np.float64), np.asarray(probability, np.float64)
    return (c * m).sum(-1) / c.shape[-1]


def device_balance_loss(share: ArrayLike, probability: ArrayLike, ranks: int) -> Floats:
    """[...] sum over devices of (mean of E f_i)(sum of P_i) of its experts: 1 at balance, at most the devices.

    DeepSeekMoE (arXiv 2401.06066, eqs. 15-17), without its factor alpha; the experts lie on the devices in their order.

    Args:
        share: [..., E] f.
        probability: [..., E] P.
        ranks: devices; divides E.
    """
    f, p = (np.asarray(array, np.float64) for array in (share, probability))
    experts = f.shape[-1]
    load, mass = (array.reshape(*array.shape[:-1], ranks, experts // ranks) for array in (f, p))
    return (experts * load.mean(-1) * mass.sum(-1)).sum(-1)


def chance_device_balance_loss(
    mass: ArrayLike, tokens: ArrayLike, choices: ArrayLike, *, num_experts: int, chosen: int, ranks: int
) -> Floats:
    """[...] mean of `device_balance_loss` over all ways to permute each token's expert labels; NaN for no tokens.

    Of a token's K choices and its probabilities, those of one expert surely lie on one device, and those of two experts
    with chance (m - 1) / (E - 1), m = E / ranks being the experts of a device.

    Args:
        mass, tokens, choices, num_experts, chosen: as in `chance_load_balancing_loss`.
        ranks: devices; divides E.
    """
    q, t, k = (np.asarray(array, np.float64) for array in (mass, tokens, choices))
    experts = num_experts // ranks
    together = (experts - 1) / max(num_experts - 1, 1)
    own, others = q + (k - q) * together, (t - 1) * k * experts / num_experts
    return ratio(num_experts / experts * (own + others), chosen * np.square(t))
