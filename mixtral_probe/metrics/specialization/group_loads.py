"""Loads of groups of documents, how far the documents of a group spread, and what that spread alone gives.

A test that exchanges the labels of documents compares a difference of groups with this spread in every draw. The plain
difference would not do: where one group has short documents, or few, exchanging labels mixes them with the others and
makes every draw less variable than the groups are (in a simulation without any effect, 30 short and 6 long documents,
p was below 0.01 in 16 % of rows).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]


class GroupLoads(NamedTuple):
    """What G groups of documents chose, and how far their documents spread."""

    counts: Floats
    """[..., G, E] choices of each expert."""
    tokens: Floats
    """[..., G]"""
    variance: Floats
    """[..., G, E] variance of a group's frequency counts / tokens when documents are drawn; 0 without documents."""

    @property
    def frequency(self) -> Floats:
        """[..., G, E] share of a group's tokens that chose each expert; 0 without tokens."""
        return np.nan_to_num(ratio(self.counts, self.tokens[..., None]))

    @property
    def share(self) -> Floats:
        """[..., G] each group's share of the tokens."""
        return ratio(self.tokens, self.tokens.sum(-1, keepdims=True))

    @property
    def whole(self) -> Floats:
        """[..., 1, E] share of all tokens that chose each expert."""
        return ratio(self.counts.sum(-2, keepdims=True), self.tokens.sum(-1)[..., None, None])


def group_loads(labels: ArrayLike, counts: ArrayLike, tokens: ArrayLike, *, groups: int) -> GroupLoads:
    """Return the loads of groups under each of several labellings of the same documents.

    The variance is g/(g - 1) sum_j (N_j - F n_j)^2 / T^2 over the g documents of a group, with its frequency F and
    tokens T = sum n_j (a ratio estimate under sampling of whole documents: Cochran 1977, eq. 6.13). For one document
    alone it is the same about the frequency of all documents, without the factor. It is at least that of independent
    tokens, F (1 - F) / T with the frequency of all, since two or three documents may be alike by chance.

    Args:
        labels: [D, U] the group, 0 to G - 1, of each document (or bundle of documents), in D labellings.
        counts: [..., U, E] choices of each expert by document.
        tokens: [..., U] its tokens, above 0.
        groups: G.

    Returns:
        Loads with the axes [..., D, G, E].
    """
    member = (np.asarray(labels)[:, None] == np.arange(groups)[:, None]).astype(np.float64)  # [D, G, U]
    chosen, n = np.asarray(counts, np.float64), np.asarray(tokens, np.float64)[..., None]
    whole = ratio(chosen.sum(-2, keepdims=True), n.sum(-2, keepdims=True))[..., None, :, :]  # [..., 1, 1, E]
    parts = (chosen, n, np.square(chosen), chosen * n, np.square(n))
    load, size, square, cross, square_size = (_by_group(member, part) for part in parts)
    number = member.sum(-1)[..., None]  # [D, G, 1]
    about = np.where(number == 1, whole, np.nan_to_num(ratio(load, size)))
    spread = (square - 2 * about * cross + np.square(about) * square_size).clip(0) * ratio(number, (number - 1).clip(1))
    least = whole * (1 - whole) * size
    variance = np.nan_to_num(ratio(np.maximum(spread, least), np.square(size)))
    return GroupLoads(load, size[..., 0], variance)


def _by_group(member: Floats, part: Floats) -> Floats:
    """[..., D, G, tail] sums over the documents of each group, of part [..., U, tail]."""
    draws, groups, units = member.shape
    flat = member.reshape(draws * groups, units) @ part
    return np.asarray(flat.reshape(*part.shape[:-2], draws, groups, part.shape[-1]))


def difference_t(loads: GroupLoads) -> Floats:
    """[..., G, E] a group's frequency less that of all tokens, in standard errors; 0 where there is no difference.

    The groups' shares s of the tokens are fixed: se_g^2 = (1 - s_g)^2 V_g + sum_h s_h^2 V_h over the other groups.
    """
    share = loads.share[..., None]
    other = np.square(share) * loads.variance
    square = np.square(1 - share) * loads.variance + other.sum(-2, keepdims=True) - other
    return np.nan_to_num(ratio(loads.frequency - loads.whole, np.sqrt(square)))


def spread_information_bits(loads: GroupLoads) -> Floats:
    """[...] what the spread of documents alone gives for the information of the group about the expert, bits.

    sum_g s_g (1 - s_g) sum_e V_ge / (2 ln 2 K F_e), to second order in the differences; F_e is the frequency of all
    tokens and K its sum. For independent tokens it is the bias of Miller & Madow (`mutual_information_bias`).
    """
    share, whole = loads.share[..., None], loads.whole
    parts = ratio(share * (1 - share) * loads.variance, 2 * np.log(2) * whole * whole.sum(-1, keepdims=True))
    return np.nan_to_num(parts).sum((-1, -2))


def spread_divergence_bits(loads: GroupLoads) -> Floats:
    """[...] what the spread of documents alone gives for the Jensen-Shannon divergence of two groups, bits.

    sum_e (V_1e + V_2e) / (8 ln 2 K F_e), to second order; F_e is the mean frequency of the two and K its sum.
    """
    mean = loads.frequency.mean(-2)
    parts = ratio(loads.variance.sum(-2), 8 * np.log(2) * mean * mean.sum(-1, keepdims=True))
    return np.nan_to_num(parts).sum(-1)
