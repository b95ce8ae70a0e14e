"""What a path is that is no model folder, and the command or the place that leads to one."""

import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from mixtral_probe.errors import InputError
from mixtral_probe.json_files import read_json_object

ADAPTER = "adapter_config.json"
HasWeights = Callable[[Path], bool]
"""Whether a folder has weights in a layout that is read."""
_HUB_NAME = re.compile(r"(https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)?(\w[\w.-]*/\w[\w.-]*?)(?:/tree/[\w.-]+)?/?")
_STEP = re.compile(r"checkpoint-(\d+)")
_OF_A_FOLDER = "a file of a model's folder; give the folder, {parent}"
_FILES = (
    ("*.gguf", "a GGUF file of llama.cpp, which is not read; {gguf}"),
    ("adapter_model.*", "the weights of an adapter without the model it belongs to; {merge}"),
    ("tokenizer.model", _OF_A_FOLDER),
    *((f"*.{ending}", _OF_A_FOLDER) for ending in ("safetensors", "bin", "pt", "pth", "json")),
    ("*.zip", "an archive; unpack it and give the folder in it"),
    ("*.tar*", "an archive; unpack it and give the folder in it"),
)
_OTHER_WEIGHTS = (
    ("*.gguf", "GGUF files of llama.cpp, which are not read; {gguf}"),
    ("weights*.npz", "weights of MLX as .npz; get the model in the layout of transformers, with model.safetensors"),
    ("flax_model*", "weights of JAX; save them with transformers 4: from_pretrained(…, from_flax=True)"),
    ("tf_model*", "weights of TensorFlow; save them with transformers 4: from_pretrained(…, from_tf=True)"),
    ("*.onnx", "a model in ONNX; get the one that it was made from, with model.safetensors"),
    ("*.ckpt", "a checkpoint of a training program (.ckpt); save its model with transformers: save_pretrained(…)"),
)
_GGUF = (
    "get the model that it was made from, with model.safetensors, or convert it with transformers: "
    "AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=NAME).save_pretrained(OUT)"
)
_MERGE = (
    "merge and save it with the package peft: AutoPeftModelForCausalLM.from_pretrained({folder!r}).merge_and_unload()"
    ".save_pretrained(OUT), and copy the tokenizer's files to OUT"
)


def no_folder(path: Path, given: str) -> InputError:
    """Return the error for a path that is no folder."""
    kind = _file_kind(path) if path.exists() else _name_kind(given)
    return InputError(f"a model must be a folder, or 'mini' for the embedded one, got {path}, {kind}")


def is_known_file(path: Path) -> bool:
    """Whether a file is of a kind that ``no_folder`` names."""
    return path.is_file() and any(fnmatch(path.name.lower(), pattern) for pattern, _ in _FILES)


def require_model(folder: Path, has_weights: HasWeights) -> None:
    """Raise InputError where a folder without weights is recognised as something else than a model."""
    if not has_weights(folder) and (kind := _folder_kind(folder, has_weights)) is not None:
        raise InputError(f"a model must be a folder with its weights, got {folder}, {kind}")


def _file_kind(path: Path) -> str:
    for pattern, sentence in _FILES:
        if path.is_file() and fnmatch(path.name.lower(), pattern):
            parent = str(path.absolute().parent)
            return sentence.format(parent=parent, gguf=_GGUF, merge=_MERGE.format(folder=parent))
    return "a file"


def _name_kind(given: str) -> str:
    match = _HUB_NAME.fullmatch(given)
    if match is None or (match[1] is None and (given.startswith(".") or Path(given).parent.is_dir())):
        return "a path that does not exist"
    return (
        f"the name of a model on the Hugging Face Hub, which is not on this machine; fetch it with: hf download "
        f"{match[2]} --local-dir {match[2].split('/')[1]}, of the package huggingface_hub, and give that folder"
    )


def _folder_kind(folder: Path, has_weights: HasWeights) -> str | None:
    names = sorted(entry.name for entry in folder.iterdir())
    kinds = (_adapter, _snapshot, _cache, _zero_shards, _fsdp_shards, _steps, _other_weights)
    found = (kind(folder, names, has_weights) for kind in (*kinds, _inner))
    return next((sentence for sentence in found if sentence is not None), None)


def _adapter(folder: Path, names: list[str], _: HasWeights) -> str | None:
    if ADAPTER not in names and not any(name.startswith("adapter_model.") for name in names):
        return None
    return f"an adapter{_base_of(folder)}, not a whole model; {_MERGE.format(folder=str(folder))}"


def _base_of(folder: Path) -> str:
    """Return the kind of an adapter and the model it changes, where its file says so."""
    try:
        fields = read_json_object(folder / ADAPTER)
    except (FileNotFoundError, InputError):
        return ""
    kind, base = fields.get("peft_type"), fields.get("base_model_name_or_path")
    return (f" ({kind} of PEFT)" if isinstance(kind, str) else "") + (f" of {base}" if isinstance(base, str) else "")


def _snapshot(folder: Path, names: list[str], has_weights: HasWeights) -> str | None:
    if "snapshots" not in names or not (folder / "snapshots").is_dir():
        return None
    whole = [entry for entry in sorted((folder / "snapshots").iterdir()) if entry.is_dir() and has_weights(entry)]
    if not whole:
        name = folder.name.removeprefix("models--").replace("--", "/")
        return f"a model in the cache of the Hub without its weights; fetch them with: hf download {name}"
    main = folder / "refs" / "main"
    current = folder / "snapshots" / main.read_text(errors="replace").strip() if main.is_file() else None
    return f"a model in the cache of the Hub; give its snapshot, {current if current in whole else whole[-1]}"


def _cache(folder: Path, names: list[str], _: HasWeights) -> str | None:
    models = [name for name in names if name.startswith("models--")]
    if not models:
        return None
    return f"the cache of the Hub; give a snapshot of one of its models, below {folder / models[0] / 'snapshots'}"


def _zero_shards(folder: Path, names: list[str], _: HasWeights) -> str | None:
    steps = [name for name in names if re.fullmatch(r"global_step\d+", name) and (folder / name).is_dir()]
    if "zero_to_fp32.py" not in names and not steps and not any(name.endswith("_states.pt") for name in names):
        return None
    script = folder / "zero_to_fp32.py" if "zero_to_fp32.py" in names else "-m deepspeed.utils.zero_to_fp32"
    return (
        "shards of a training with DeepSpeed (ZeRO); gather them with: "
        f"python {script} {folder} {folder} --safe_serialization"
    )


def _fsdp_shards(folder: Path, names: list[str], _: HasWeights) -> str | None:
    states = [name for name in names if name.startswith("pytorch_model_fsdp") and (folder / name).is_dir()]
    if not states and not any(name.endswith(".distcp") for name in names):
        return None
    shards = folder / states[0] if states else folder
    return f"shards of a training with FSDP; gather them with: accelerate merge-weights {shards} {folder}"


def _steps(folder: Path, names: list[str], _: HasWeights) -> str | None:
    steps = sorted((int(match[1]), name) for name in names if (match := _STEP.fullmatch(name)))
    if not steps:
        return None
    return f"the output of a training, whose models are in its folders checkpoint-…; give {folder / steps[-1][1]}"


def _other_weights(folder: Path, names: list[str], _: HasWeights) -> str | None:
    for pattern, sentence in _OTHER_WEIGHTS:
        if any(fnmatch(name.lower(), pattern) for name in names):
            return f"with {sentence.format(gguf=_GGUF)}"
    return None


def _inner(folder: Path, names: list[str], has_weights: HasWeights) -> str | None:
    inner = [folder / name for name in names if (folder / name).is_dir() and has_weights(folder / name)]
    return f"with models in folders of it; give one of them, such as {inner[0]}" if inner else None
