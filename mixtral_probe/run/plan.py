"""From documents to windows of token ids: what will run, and in which batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pandas as pd

from mixtral_probe.corpus import Corpus
from mixtral_probe.errors import InputError
from mixtral_probe.instruments import Window
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.subject import Subject
from mixtral_probe.stats.groups import require_groups
from mixtral_probe.tokenizer import Encoding, Tokenizer
from mixtral_probe.trace.frames import document_frame


@dataclass(frozen=True)
class Plan:
    """Tokenised documents, cut into windows: planned once, and estimated, captured or measured as often as needed."""

    corpus: Corpus
    documents: pd.DataFrame
    """document, id, labels."""
    tokens: pd.DataFrame
    """document, chunk, position, token_id, piece, start, end, phase, special: one row per token."""
    windows: tuple[Window, ...]
    """In the order of the rows."""
    window: int | None = None
    """The window of the options; None: the model's maximum."""

    @property
    def token_ids(self) -> np.ndarray:
        """[T] int32."""
        return self.tokens["token_id"].to_numpy()


def plan(subject: Subject, corpus: Corpus, options: RunOptions) -> Plan:
    """Tokenise, and cut what is longer than the window of the options; positions start again in each window.

    Raises:
        InputError: no documents, a document without tokens or with one that the model lacks, or a window below 1.
    """
    window = subject.config.max_position_embeddings if options.window is None else options.window
    if window < 1:
        raise InputError(f"a window must hold at least 1 token, got window={window}; give 1 or more")
    documents, tokenizer = corpus.documents, subject.tokenizer
    if not documents:
        raise InputError("a run needs at least one document, got none; give a text")
    frame = document_frame([{"id": d.id, **d.labels} for d in documents])
    require_groups(frame)
    encodings = [tokenizer.encode(d.text, add_special_tokens=options.add_special_tokens) for d in documents]
    for document, encoding in zip(documents, encodings, strict=True):
        if not len(encoding.ids):
            raise InputError(f"a document must have a token, got none in {document.id!r}; leave it out")
        tokenizer.check_fits(encoding.ids, subject.config, f"the document {document.id!r}")
    tokens = _token_frame(encodings, tokenizer, window)
    return Plan(corpus, frame, tokens, tuple(_windows([len(e.ids) for e in encodings], window)), options.window)


def _token_frame(encodings: Sequence[Encoding], tokenizer: Tokenizer, window: int) -> pd.DataFrame:
    lengths = np.array([len(encoding.ids) for encoding in encodings])
    within = np.concatenate([np.arange(n) for n in lengths])
    ids = np.concatenate([encoding.ids for encoding in encodings])
    return pd.DataFrame(
        {
            "document": np.repeat(np.arange(len(lengths)), lengths),
            "chunk": within // window,
            "position": within % window,
            "token_id": ids,
            "piece": pd.Categorical(tokenizer.pieces(ids)),
            "start": np.concatenate([encoding.start for encoding in encodings]),
            "end": np.concatenate([encoding.end for encoding in encodings]),
            "phase": "prefill",
            "special": np.concatenate([encoding.special for encoding in encodings]),
        }
    )


def _windows(lengths: Sequence[int], window: int) -> Iterator[Window]:
    row = 0
    for document, length in enumerate(lengths):
        for chunk, start in enumerate(range(0, length, window)):
            size = min(window, length - start)
            yield Window(document, chunk, row, size)
            row += size


def longer(windows: Sequence[Window], new_tokens: int) -> list[Window]:
    """The prompts at their largest length when continued: the last new token is never fed forward."""
    return [replace(window, length=window.length + new_tokens - 1) for window in windows]


def batches(windows: Sequence[Window], positions: int) -> Iterator[list[Window]]:
    """Windows of similar length together, at most ``positions`` padded positions a batch, or one window.

    A document's windows come one after the other, so that few documents are unfinished at any time.
    """
    documents = [list(group) for _, group in groupby(windows, key=lambda w: w.document)]
    ordered = [w for group in sorted(documents, key=lambda g: g[0].length) for w in group]
    batch: list[Window] = []
    longest = 0
    for window in ordered:
        longest = max(longest, window.length)
        if batch and longest * (len(batch) + 1) > positions:
            yield batch
            batch, longest = [], window.length
        batch.append(window)
    if batch:
        yield batch
