"""Information about the chosen expert, as several tables declare and scale it."""

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.phrases import CHANCE_ALONE, NOTHING_TO_TELL, POSITIVE
from mixtral_probe.tables.spec import Metric

Floats = NDArray[np.float64]
BITS = "mutual_information_bits"
CORRECTED = "mutual_information_bits_corrected"
INFORMATION = {
    BITS: Metric(
        "bits the variable tells about the expert, plug-in; null: chance alone, its bias",
        "information, bits",
        bounds=POSITIVE,
        null=CHANCE_ALONE,
    ),
    CORRECTED: Metric(
        "the same less what chance alone shows; null 0", "information less chance, bits", null=NOTHING_TO_TELL
    ),
}


def share_of_entropy(bits: Floats, load: NDArray[np.int64]) -> Floats:
    """[...] bits / H(E) of loads [..., E]; 0 where only one expert was ever chosen: the entropy is 0 too."""
    entropy = np.log2(metrics.effective_experts(load))
    return np.where(entropy == 0, 0.0, metrics.ratio(bits, entropy))
