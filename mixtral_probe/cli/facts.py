"""Facts of a folder, found without running a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path

if TYPE_CHECKING:
    from mixtral_probe.checkpoint import Checkpoint
    from mixtral_probe.trace import Trace

FINGERPRINT_LIMIT = 2 * 10**9
"""Bytes of weights up to which a model is read whole for its fingerprint."""
_PLAIN_LABEL_VALUES = 30
_CONFIGS = ("config.json", "params.json")


def folder_facts(path: str | Path) -> dict[str, Any]:
    """Facts of a model folder ("mini" too) or of a trace, ready for JSON.

    Raises:
        InputError: it is neither, or it is broken.
    """
    folder = checked_path(path)
    if path != "mini":
        if not folder.exists():
            raise InputError(
                f"info needs a model folder or a trace, got {folder}, where there is nothing; name another"
            )
        if (folder / "trace.json").is_file():
            return _trace_facts(folder)
        if (folder / "run" / "plan.json").is_file():
            raise InputError(
                f"info needs a model folder or a trace, got {folder}, an unfinished run; the same capture continues it"
            )
        if not any((folder / name).is_file() for name in _CONFIGS):
            _refuse_recognised(folder)
            raise InputError(
                f"info needs a model folder (with {' or '.join(_CONFIGS)}) or a trace (with trace.json), "
                f"got {folder}, {'a file' if folder.is_file() else 'which is neither'}; name another"
            )
    return _model_facts(path)


def _refuse_recognised(folder: Path) -> None:
    """Raise InputError where a folder is something else than a model that is recognised."""
    from mixtral_probe.checkpoint import model_folder
    from mixtral_probe.checkpoint.recognise import is_known_file

    if folder.is_dir() or is_known_file(folder):
        model_folder(folder)


def _model_facts(path: str | Path) -> dict[str, Any]:
    from mixtral_probe.checkpoint import Checkpoint

    opened = Checkpoint(path)
    config, files = opened.config, _weight_files(opened.folder)
    return {
        "kind": "model",
        "path": str(opened.folder),
        "parameters": config.num_parameters(),
        "active_parameters": config.num_active_parameters(),
        "parameters_by_part": config.parameters_by_part(),
        "layers": config.num_hidden_layers,
        "experts": config.num_local_experts,
        "experts_per_token": config.num_experts_per_tok,
        "attention_heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "positions": config.max_position_embeddings,
        "dtype": str(opened.dtype).removeprefix("torch."),
        "layout": opened.layout,
        "language_head": opened.has_head,
        "tokenizer": (opened.folder / "tokenizer.json").is_file(),
        "bytes": sum(files.values()),
        "files": files,
        "fingerprint": _model_fingerprint(opened, sum(files.values())),
    }


def _weight_files(folder: Path) -> dict[str, int]:
    """Only those that are read: a folder may hold the same weights in a second layout."""
    from mixtral_probe.checkpoint.weights import stored_tensors

    files = {tensor.file for tensor in stored_tensors(folder).values()}
    return {file.name: file.stat().st_size for file in sorted(files)}


def _model_fingerprint(opened: "Checkpoint", size: int) -> str | None:
    """The one that traces of this model carry; None where finding it would mean reading very much."""
    if not opened.has_head or size > FINGERPRINT_LIMIT:
        return None
    from mixtral_probe.checkpoint import MixtralForCausalLM
    from mixtral_probe.run.provenance import model_fingerprint

    return model_fingerprint(MixtralForCausalLM.from_pretrained(opened.folder, dtype="auto"))


def _trace_facts(folder: Path) -> dict[str, Any]:
    from mixtral_probe.trace import Trace

    trace, files = Trace.load(folder), {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    meta = trace.meta
    return {
        "kind": "trace",
        "path": str(folder),
        "documents": trace.num_documents,
        "tokens": trace.num_tokens,
        "special_tokens": int(trace.tokens["special"].sum()),
        "labels": _labels(trace),
        "layers": trace.num_layers,
        "experts": trace.num_experts,
        "experts_per_token": trace.num_experts_per_tok,
        "recorded": _recorded(trace),
        **({"nonfinite": sum(meta.nonfinite)} if meta.nonfinite else {}),
        "model": meta.model,
        "tokenizer": meta.tokenizer,
        "corpus": meta.corpus,
        "dtype": meta.dtype,
        "device": meta.device,
        "instruments": [instrument.get("name", "") for instrument in meta.instruments],
        "software": meta.software,
        "created": meta.created,
        "schema_version": meta.schema_version,
        "bytes": sum(files.values()),
        "files": files,
    }


def _labels(trace: "Trace") -> dict[str, dict[str, int] | str]:
    """Documents of each value of each label; where values are many, only how many."""
    described: dict[str, dict[str, int] | str] = {}
    for name in trace.labels:
        counts = trace.documents[name].astype(str).value_counts(sort=False).sort_index()
        few = len(counts) <= _PLAIN_LABEL_VALUES
        described[name] = {str(k): int(n) for k, n in counts.items()} if few else f"{len(counts)} values"
    return described


def _recorded(trace: "Trace") -> list[str]:
    names = [name for name in ("expert_ids", "expert_weights", "router_logits") if getattr(trace, name) is not None]
    if trace.tokens["nll"].notna().any():
        names.append("nll")
    if trace.attention_layers:
        names.append(f"attention of layers {json.dumps(list(trace.attention_layers))}")
    return names
