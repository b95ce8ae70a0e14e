"""Traces of documents that each have their own taste in experts, whatever their label: what a null must allow for."""

from collections.abc import Sequence

import numpy as np

from mixtral_probe.trace import Trace


def tasting_trace(
    rng: np.random.Generator,
    documents: Sequence[int],
    lengths: Sequence[int],
    *,
    layers: int = 3,
    experts: int = 6,
    chosen: int = 2,
    base: float = 0.4,
    taste: float = 0.5,
    topic: float = 0.0,
    words: int = 0,
    word: float = 0.0,
    habit: float = 0.0,
) -> Trace:
    """Return a trace in which tokens choose by the logits of their layer, document, topic and word, and by chance.

    Half of a document's taste is common to its layers, and ids of documents are drawn anew, as are their blocks.

    Args:
        rng: the source of chance.
        documents: of each domain a, b, …
        lengths: tokens of a document of each domain.
        layers, experts, chosen: of the model.
        base: spread of the logits that all tokens of a layer have in common.
        taste: spread of the logits of documents.
        topic: spread of the logits of domains; 0 = the label says nothing.
        words: types of token, which every document uses at rates of its own; 0 = ids are not recorded.
        word: spread of the logits of every second type, each a rotation of those of the one before, so that with twice
            as many types as experts, and `base` 0, these types together load the experts as the others do, whose
            tokens have no preference.
        habit: spread of the logits of a type in one document.
    """
    domain = np.repeat(np.arange(len(documents)), documents)
    owner = np.repeat(np.arange(len(domain)), np.repeat(lengths, documents))
    common, own = rng.normal(size=(1, len(domain), experts)), rng.normal(size=(layers, len(domain), experts))
    logits = rng.normal(size=(layers, 1, experts)) * base + taste * np.sqrt(0.5) * (common + own)
    logits = logits + topic * rng.normal(size=(layers, len(documents), experts))[:, domain]
    logits, ids = logits[:, owner], None
    if words:
        rates = rng.dirichlet(np.full(words, 2.0), len(domain)).cumsum(-1)
        ids = np.minimum((rates[owner] < rng.random((len(owner), 1))).sum(-1), words - 1)
        kinds, places = np.arange(words)[:, None], np.arange(experts)
        rotated = rng.normal(size=(layers, experts))[:, (places + kinds // 2) % experts]  # [L, V, E]
        logits = logits + word * (rotated * (kinds % 2))[:, ids]
        logits = logits + habit * rng.normal(size=(layers, len(domain), words, experts))[:, owner, ids]
    noisy = logits + rng.gumbel(size=logits.shape)
    return Trace.from_arrays(
        expert_ids=np.argsort(-noisy, axis=-1)[..., :chosen],
        num_experts=experts,
        document=owner,
        token_ids=ids,
        documents=[{"id": f"{rng.integers(1 << 60)}", "domain": "abcdefgh"[number]} for number in domain],
    )
