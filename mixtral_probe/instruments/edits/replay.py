"""An edit that replays the routing of a trace."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import PlainSerializer, PlainValidator
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.choices import ChoiceEdit, padded
from mixtral_probe.instruments.edits.rows import BatchRow, Rows
from mixtral_probe.model import Routing
from mixtral_probe.trace import Trace


def _open_trace(value: Any) -> Trace:
    return value if isinstance(value, Trace) else Trace.load(Path(value).expanduser())


def _path_of(trace: Trace) -> str:
    return str(trace.path)


class ReplayRouting(ChoiceEdit):
    """Route as in another run, whatever the logits are.

    A token is routed as the token at the same position of the same document; run the documents of the trace, in order.
    """

    semantics: ClassVar[str] = (
        "every token goes to the experts, with the weights, that a trace recorded for it; the router has no say, and "
        "nothing is renormalised"
    )
    edit: Literal["replay_routing"] = "replay_routing"
    trace: Annotated[Trace, PlainValidator(_open_trace), PlainSerializer(_path_of)]
    """A trace, or its path."""

    def __hash__(self) -> int:
        return hash((type(self), id(self.trace)))

    def require_savable(self) -> None:
        """Raise InputError for a trace without a path."""
        if self.trace.path is None:
            raise InputError(
                "an edit is saved with the path of its trace, got a trace without a path; save the trace first"
            )

    def settings(self) -> dict[str, Any]:
        """Return the settings as in every edit; the trace by its path, if it has one."""
        unsaved = self.trace.path is None
        fields = self.model_dump(mode="json", include=self.model_fields_set - {"trace"} if unsaved else None)
        return {"name": type(self).__name__, **fields}

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit, and that the trace is of a model with as many layers and experts."""
        super().check(config)
        if self.trace.expert_weights is None:
            raise InputError("a replayed trace must have expert weights, got none")
        trace, sizes = self.trace, (config.num_hidden_layers, config.num_local_experts)
        if (trace.num_layers, trace.num_experts) != sizes:
            raise InputError(
                f"a replayed trace must be of {sizes[0]} layers × {sizes[1]} experts, as the model is, "
                f"got {trace.num_layers} × {trace.num_experts}"
            )

    def most_experts(self, top_k: int) -> int:
        """Return at least those of the trace."""
        return max(top_k, self.trace.num_experts_per_tok)

    def choice(self, layer: int, value: Routing, rows: Rows) -> Routing:
        """Return the recorded choice; that of the model on padding."""
        size, top_k = rows.shape[1], self.trace.num_experts_per_tok
        choice = padded(value, max(top_k, value.expert_ids.shape[1]))
        ids, weights = choice.expert_ids[:, :top_k].cpu().clone(), choice.weights[:, :top_k].float().cpu().clone()
        for row, (batch_row, places) in enumerate(rows.token_positions()):
            target = places.cpu() + row * size
            source = self._source(batch_row, rows, row, places)
            ids[target] = torch.from_numpy(self.trace.expert_ids[layer, source].astype(np.int64))
            assert self.trace.expert_weights is not None
            weights[target] = torch.from_numpy(np.array(self.trace.expert_weights[layer, source]))
        return Routing(ids.to(value.expert_ids.device), weights.to(value.weights), value.logits)

    def _source(self, batch_row: BatchRow, rows: Rows, row: int, places: Tensor) -> np.ndarray:
        """Return the trace's rows of some positions of a batch row."""
        tokens = self.trace.tokens
        window = np.flatnonzero((tokens["document"] == batch_row.document) & (tokens["chunk"] == batch_row.chunk))
        positions = rows.positions()[row, places].cpu().numpy()
        same = len(positions) == 0 or int(positions.max()) < len(window)
        if same and rows.context.input_ids is not None:
            ids = tokens["token_id"].to_numpy()[window[positions]]
            same = bool((rows.context.input_ids[row, places].cpu().numpy() == ids).all())
        if not same:
            raise InputError(
                f"a replayed run must be of the tokens of the trace, got others in document {batch_row.document}, "
                f"window {batch_row.chunk}; run the same documents in the same order"
            )
        return window[positions]
